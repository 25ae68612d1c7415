"""The time from a message's LPUSH to its published result: on an idle queue, and under load.

Redis on one processor and everybody else on the other; "anywhere" where the scheduler puts them."""

import statistics
from collections.abc import Sequence
from typing import Any

from engine import contenders, report, template
from engine.contenders import QUEUE, Contender
from engine.drain import drain, warm_up
from engine.options import Options
from engine.probe import probe
from engine.site import ANYWHERE, APART, Placement, new_site

HEAD = ["", "p50 ms", "p99 ms", "most ms", "of", "sent/s"]
BARE, OURS, PREFORK = "bare commands", "ours", "celery prefork -c 2"
BARE_ANYWHERE, OURS_ANYWHERE = "bare commands, anywhere", "ours, anywhere"
LOADED = "ours at half load, anywhere"
LOAD_SECONDS = 5


def main(options: Options) -> None:
    arms = {
        BARE: lambda: bare(options.tasks, APART),
        OURS: lambda: idle(contenders.ours(options.slots), options.tasks, APART),
        PREFORK: lambda: idle(contenders.celery("prefork", 2), options.tasks // 10 + 1, APART),
        BARE_ANYWHERE: lambda: bare(options.tasks, ANYWHERE),
        OURS_ANYWHERE: lambda: idle(contenders.ours(options.slots), options.tasks, ANYWHERE),
        LOADED: lambda: loaded(contenders.ours(options.slots), options),
    }
    wanted = {name: run for name, run in arms.items() if options.wants(name)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for _ in range(options.runs):
        for name, run in wanted.items():
            runs[name].append(summary(run()))
    print(report.table(HEAD, [row(name, found) for name, found in runs.items()]))
    for line in goals(runs):
        print(line)
    report.save("latency", runs, options.json)


def bare(count: int, placement: Placement) -> dict[str, Any]:
    """LPUSH, RPOP and PUBLISH, each sent when the one before was answered."""
    with new_site(placement) as site:
        template.capture(site)
        return probe(site, "bare", list=QUEUE, count=count)


def idle(contender: Contender, count: int, placement: Placement) -> dict[str, Any]:
    """One message after the other, each when the result of the one before is there."""
    with new_site(placement) as site:
        contender.start(site)
        warm_up(contender, site)
        return probe(site, "trips", list=QUEUE, first=10**9, count=count)


def loaded(contender: Contender, options: Options) -> dict[str, Any]:
    """Half as many messages a second as this worker did just before."""
    most = drain(contender, options.tasks * contender.weight).per_second
    with new_site() as site:
        contender.start(site)
        warm_up(contender, site)
        load = {"rate": int(most / 2), "seconds": LOAD_SECONDS}
        return probe(site, "load", list=QUEUE, **load)


def summary(figures: dict[str, Any]) -> dict[str, Any]:
    times = sorted(figures.pop("microseconds"))
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
    found = {name: percentile(times, share) / 1000 for name, share in shares.items()}
    return found | {"most_ms": times[-1] / 1000, "count": len(times)} | figures


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    cells = [report.spread([run[key] for run in runs], 3) for key in ("p50_ms", "p99_ms")]
    cells.append(report.spread([run["most_ms"] for run in runs], 1))
    sent = [run["sent_per_second"] for run in runs if "sent_per_second" in run]
    return [name, *cells, f"{runs[0]['count']:,}", report.spread(sent) if sent else ""]


def goals(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = []
    if OURS in runs and BARE in runs:
        value = statistics.median(
            one["p50_ms"] / other["p50_ms"]
            for one, other in zip(runs[OURS], runs[BARE], strict=True)
        )
        lines.append(report.goal("p50, ours / bare commands", value, 2, at_least=False))
    if OURS in runs:
        value = statistics.median(run["p99_ms"] for run in runs[OURS])
        lines.append(report.goal("p99 on an idle queue", value, 3, at_least=False, unit=" ms"))
    return lines
