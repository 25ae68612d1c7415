"""Draws the throughput of all contenders as they were last measured: benches/throughput.svg."""

import json
import statistics
from html import escape
from pathlib import Path
from typing import Any

from engine.options import Options
from engine.report import FOLDER

FILE = Path(__file__).resolve().parents[1] / "throughput.svg"
# What an arm is called beside its bar; the others by their own names.
TITLES = {
    "ceiling": "the same commands, no worker",
    "ours": "this worker",
    "BullMQ": "BullMQ (Node.js)",
    "apalis-redis": "apalis-redis (Rust)",
}
LEFT_OUT = {"ours, ignore_result", "ceiling, ignore_result"}
WIDTH, BAR, GAP, TOP, LABELS, NUMBERS = 760, 18, 9, 54, 280, 80
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.small { fill: #59636e }
rect { fill: #8c959f }
.ours { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9198a1 }
  rect { fill: #6e7681 }
  .ours { fill: #f0883e }
}
"""


def main(options: Options) -> None:
    del options
    rates, measured = {}, {}
    for bench in ("peers", "throughput"):
        found = json.loads((FOLDER / f"{bench}.json").read_text())
        measured = found["measured"]
        for arm, runs in found["figures"].items():
            rates[arm] = statistics.median(run["per_second"] for run in runs)
    FILE.write_text(drawing({arm: rates[arm] for arm in rates if arm not in LEFT_OUT}, measured))
    print(f"drawn: {FILE}")


def drawing(rates: dict[str, float], measured: dict[str, Any]) -> str:
    ordered = sorted(rates.items(), key=lambda item: -item[1])
    scale = (WIDTH - LABELS - NUMBERS) / ordered[0][1]
    height = TOP + len(ordered) * (BAR + GAP) + 8
    about = f"{measured['machine']}, Redis {measured['redis']}, {measured['date'][:10]}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(', '.join(f'{arm}: {rate:,.0f}' for arm, rate in ordered))}</title>",
        f"<style>{STYLE}</style>",
        '<text class="title" x="8" y="20">No-op tasks per second, results stored</text>',
        f'<text class="small" x="8" y="40">{escape(about)}</text>',
    ]
    for number, (arm, rate) in enumerate(ordered):
        top = TOP + number * (BAR + GAP)
        middle = top + BAR - 5
        kind = ' class="ours"' if arm == "ours" else ""
        width = max(rate * scale, 1)
        lines += [
            f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">'
            f"{escape(TITLES.get(arm, arm))}</text>",
            f'<rect{kind} x="{LABELS}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LABELS + width + 6:.1f}" y="{middle}">{rate:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
