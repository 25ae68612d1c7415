"""Figures of several runs: the median and what it lies between, on the terminal and as JSON."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "target" / "bench"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and in brackets the least and the most."""
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return middle if least == most else f"{middle} ({least}-{most})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def goal(name: str, value: float, limit: float, *, at_least: bool, unit: str = "") -> str:
    """A line that says whether a goal is met, and by how much."""
    met = value >= limit if at_least else value <= limit
    word = "at least" if at_least else "at most"
    verdict = "met" if met else "MISSED"
    return f"goal {verdict}: {name} {value:,.3g}{unit}, {word} {limit:,.3g}{unit}"


def save(bench: str, figures: dict[str, Any], file: Path | None) -> None:
    """Writes the figures down, with where and when they were measured."""
    if file is None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        file = FOLDER / f"{bench}.json"
    content = {"bench": bench, "measured": conditions(), "figures": figures}
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(f"figures: {file}")


def conditions() -> dict[str, str]:
    """When, and on what machine."""
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    redis = subprocess.run(
        ["redis-server", "--version"], capture_output=True, text=True, check=True
    )
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "machine": f"{len(cpus)} x {cpus[0] if cpus else platform.processor()}",
        "memory_gib": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f}",
        "kernel": platform.release(),
        "redis": redis.stdout.split()[2].removeprefix("v="),
        "python": platform.python_version(),
    }
