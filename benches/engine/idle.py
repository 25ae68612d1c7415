"""What workers cost while there is nothing to do: one of ours, one of Celery's, 200 of ours."""

import statistics
import time
from typing import Any

from engine import contenders, report, resources
from engine.contenders import Contender
from engine.drain import warm_up
from engine.nodes import await_nodes
from engine.options import Options
from engine.site import new_site

HEAD = ["", "worker CPU %", "Redis CPU %", "peak MiB", "PSS MiB"]
ALONE, OURS, PREFORK, MANY = "Redis alone", "ours", "celery prefork -c 2", "200 of ours"
FLEET = 200
SECONDS = 20


def main(options: Options) -> None:
    arms = {
        ALONE: lambda: idle(contenders.ours(2), 0, options.seconds or SECONDS),
        OURS: lambda: idle(contenders.ours(2), 1, options.seconds or SECONDS),
        PREFORK: lambda: idle(contenders.celery("prefork", 2), 1, options.seconds or SECONDS),
        MANY: lambda: idle(contenders.ours(2), FLEET, options.seconds or SECONDS),
    }
    wanted = {name: run for name, run in arms.items() if options.wants(name)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for _ in range(options.runs):
        for name, run in wanted.items():
            runs[name].append(run())
    print(report.table(HEAD, [row(name, found) for name, found in runs.items()]))
    for line in goals(runs):
        print(line)
    report.save("idle", runs, options.json)


def idle(contender: Contender, processes: int, seconds: float) -> dict[str, Any]:
    """The part of one processor that workers and Redis use while nothing is asked of them."""
    with new_site() as site:
        contender.start(site, processes)
        await_nodes(site, processes)
        if processes == 1:
            warm_up(contender, site)
        workers = site.worker_pids()
        before = resources.cpu_seconds(workers), resources.cpu_seconds([site.redis.pid])
        began = time.perf_counter()
        time.sleep(seconds)
        taken = time.perf_counter() - began
        after = resources.cpu_seconds(workers), resources.cpu_seconds([site.redis.pid])
        site.check_workers()
        worker, redis = (
            100 * (end - begin) / taken for begin, end in zip(before, after, strict=True)
        )
        return {
            "worker_percent": worker,
            "redis_percent": redis,
            "peak_mib": resources.peak_mib(workers),
            "proportional_mib": resources.proportional_mib(workers),
            "seconds": taken,
        }


def row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    percent = [report.spread([run[key] for run in runs], 2) for key in PERCENT]
    return [name, *percent, *(report.spread([run[key] for run in runs], 1) for key in MEMORY)]


PERCENT = ["worker_percent", "redis_percent"]
MEMORY = ["peak_mib", "proportional_mib"]


def goals(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    def median(name: str, *keys: str) -> float:
        return statistics.median(sum(run[key] for key in keys) for run in runs[name])

    lines = []
    if OURS in runs:
        together = median(OURS, *PERCENT)
        lines.append(report.goal("CPU, worker + Redis", together, 0.3, at_least=False, unit=" %"))
        peak = median(OURS, "peak_mib")
        lines.append(report.goal("idle memory", peak, 12, at_least=False, unit=" MiB"))
    if MANY in runs:
        redis = median(MANY, "redis_percent")
        name = f"Redis CPU for {FLEET} idle workers"
        lines.append(report.goal(name, redis, 2, at_least=False, unit=" %"))
    return lines
