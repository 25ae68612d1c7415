"""Arguments and results of 1 MB each: beside the bytes alone, and how much memory they take."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.client import PubSub

from engine import contenders, report, resources, template
from engine.contenders import WAITING, OnCelerysWire
from engine.drain import Drain, drain
from engine.options import Options
from engine.probe import probe
from engine.site import Site, new_site

SIZE = 1_000_000
TASKS = 400
SLOTS = (2, 8, 32)
BARE, PREFORK = "bare bytes", "celery prefork -c 2"
PUBLISHED = f"ours -c {SLOTS[0]}, published"
HEAD = ["", "tasks/s", "MB/s in + out", "CPU ms/task", "Redis ms/task", "peak MiB"]


def main(options: Options) -> None:
    tasks = min(options.tasks, TASKS)
    arms = {BARE: lambda: bare(tasks)}
    for slots in SLOTS:
        arms[ours(slots)] = lambda slots=slots: run(contenders.ours(slots), tasks)
    arms[PUBLISHED] = lambda: run(Published(**vars(contenders.ours(SLOTS[0]))), tasks)
    arms[PREFORK] = lambda: run(contenders.celery("prefork", 2), max(tasks // 4, 1))
    wanted = {name: arm for name, arm in arms.items() if options.wants(name)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for _ in range(options.runs):
        for name, arm in wanted.items():
            runs[name].append(arm())
    print(report.table(HEAD, [row(name, found) for name, found in runs.items()]))
    for line in goals(runs):
        print(line)
    report.save("bodies", runs, options.json)


def ours(slots: int) -> str:
    return f"ours -c {slots}"


def bare(tasks: int) -> dict[str, Any]:
    """RPOP and SETEX of the same bytes, pipelined from one raw socket."""
    with new_site() as site:
        template.capture(site, "bench.echo", ("x" * SIZE,))
        probe(site, "fill", list=WAITING, count=tasks)
        before = resources.cpu_seconds([site.redis.pid])
        seconds = probe(site, "ceiling", list=WAITING, count=tasks, dues="transfer")["seconds"]
        redis = resources.cpu_seconds([site.redis.pid]) - before
        return Drain(tasks, seconds, 0, redis, 0, 0).as_json()


def run(contender: OnCelerysWire, tasks: int) -> dict[str, Any]:
    contender.task, contender.args = "bench.echo", ("x" * SIZE,)
    return drain(contender, tasks).as_json()


@dataclass
class Published(OnCelerysWire):
    """Where a client listens by pattern, as a Python worker's does: who else hears, Redis knows."""

    subscriber: PubSub | None = None

    def start(self, site: Site, processes: int = 1) -> None:
        self.subscriber = site.redis.client.pubsub()
        self.subscriber.psubscribe("another.*")
        self.subscriber.get_message(timeout=60)
        super().start(site, processes)


def row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    def spread(figure: Callable[[dict[str, Any]], float], digits: int) -> str:
        return report.spread([figure(run) for run in runs], digits)

    return [
        name,
        spread(lambda run: run["per_second"], 0),
        spread(lambda run: run["per_second"] * 2 * SIZE / 1e6, 0),
        "" if name == BARE else spread(lambda run: run["worker_us"] / 1000, 2),
        spread(lambda run: run["redis_us"] / 1000, 2),
        "" if name == BARE else spread(lambda run: run["peak_mib"], 0),
    ]


def goals(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = []

    def median(name: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[name])

    if BARE in runs:
        for name in (ours(slots) for slots in SLOTS):
            if name in runs:
                part = median(name, "per_second") / median(BARE, "per_second")
                lines.append(report.goal(f"{name} / {BARE}", part, 0.5, at_least=True))
    least, most = SLOTS[0], SLOTS[-1]
    if ours(least) in runs and ours(most) in runs:
        grown = median(ours(most), "peak_mib") - median(ours(least), "peak_mib")
        each = grown * 2**20 / (most - least) / SIZE
        lines.append(f"memory: each slot adds {each:.1f} times the size of a body")
    return lines
