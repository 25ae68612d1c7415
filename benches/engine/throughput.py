"""Throughput of no-op tasks, of ours, Celery's pools and the bare commands, in turns."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from engine import contenders, report
from engine.ceiling import ceiling
from engine.contenders import Contender
from engine.drain import Drain, drain
from engine.options import Options

HEAD = [
    "",
    "tasks/s",
    "ours / it",
    "worker CPU us/task",
    "Redis CPU us/task",
    "peak MiB",
    "PSS MiB",
]
OURS, IGNORING = "ours", "ours, ignore_result"
CEILING, IGNORING_CEILING = "ceiling", "ceiling, ignore_result"
PREFORK = "celery prefork -c 2"


@dataclass
class Arm:
    name: str
    # Times --tasks, so that the runs of fast and slow arms last about as long.
    weight: int
    run: Callable[[int], Drain]


def arms(options: Options) -> list[Arm]:
    found = [
        contenders.ours(options.slots),
        contenders.ours(options.slots, ignore_result=True),
        contenders.celery("prefork", 2),
        contenders.celery("threads", 2),
        contenders.celery("solo", 1),
    ]
    workers = [arm(one) for one in found]
    bare = [
        Arm(CEILING, 20, ceiling),
        Arm(IGNORING_CEILING, 20, lambda tasks: ceiling(tasks, ignore_result=True)),
    ]
    return [workers[0], bare[0], workers[1], bare[1], *workers[2:]]


def arm(contender: Contender) -> Arm:
    return Arm(contender.name, contender.weight, lambda tasks: drain(contender, tasks))


def main(options: Options) -> None:
    compare("throughput", arms(options), options)


def compare(bench: str, arms: list[Arm], options: Options) -> None:
    """Runs the arms in turns and reports what they did."""
    runs = in_turns(arms, options)
    print(text(runs))
    for line in goals(runs):
        print(line)
    figures = {name: [run.as_json() for run in drains] for name, drains in runs.items()}
    report.save(bench, figures, options.json)


def in_turns(arms: list[Arm], options: Options) -> dict[str, list[Drain]]:
    """Each arm once, then each once more: what changes on the machine meets all of them."""
    wanted = [arm for arm in arms if options.wants(arm.name)]
    if not wanted:
        names = ", ".join(f"{arm.name!r}" for arm in arms)
        raise SystemExit(f"--only names none of {names}")
    runs: dict[str, list[Drain]] = {arm.name: [] for arm in wanted}
    for number in range(options.runs):
        for arm in wanted:
            done = arm.run(options.tasks * arm.weight)
            runs[arm.name].append(done)
            print(f"  run {number + 1}, {arm.name}: {done.per_second:,.0f}/s", flush=True)
    return runs


def text(runs: dict[str, list[Drain]]) -> str:
    return report.table(HEAD, [row(name, drains, runs.get(OURS)) for name, drains in runs.items()])


def row(name: str, drains: list[Drain], ours: list[Drain] | None) -> list[str]:
    worker = [run.worker_us for run in drains]
    ratio = report.spread(ratios(ours, drains), 2) if ours else ""
    bare = not any(worker)
    return [
        name,
        report.spread([run.per_second for run in drains]),
        ratio,
        "" if bare else report.spread(worker, 1),
        report.spread([run.redis_us for run in drains], 1),
        "" if bare else report.spread([run.peak_mib for run in drains], 1),
        "" if bare else report.spread([run.proportional_mib for run in drains], 1),
    ]


def ratios(ours: list[Drain], others: list[Drain]) -> list[float]:
    """How many times as fast ours was, turn by turn."""
    return [one.per_second / other.per_second for one, other in zip(ours, others, strict=True)]


def goals(runs: dict[str, list[Drain]]) -> list[str]:
    """What issue 8 asks for, as far as its arms were run."""
    lines = []

    def faster(one: str, other: str, limit: float) -> None:
        if one in runs and other in runs:
            value = statistics.median(ratios(runs[one], runs[other]))
            lines.append(report.goal(f"{one} / {other}", value, limit, at_least=True))

    faster(OURS, PREFORK, 60)
    faster(OURS, CEILING, 0.6)
    faster(IGNORING, IGNORING_CEILING, 0.75)
    if OURS in runs and PREFORK in runs:
        value = statistics.median(
            theirs.worker_us / one.worker_us
            for one, theirs in zip(runs[OURS], runs[PREFORK], strict=True)
        )
        lines.append(report.goal("CPU per task, celery prefork / ours", value, 60, at_least=True))
    if OURS in runs:
        peak = max(run.peak_mib for run in runs[OURS])
        lines.append(report.goal("peak memory", peak, 25, at_least=False, unit=" MiB"))
    return lines
