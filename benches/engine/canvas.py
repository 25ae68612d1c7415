"""A chord of many parts and a long chain, by our worker and by Celery's."""

import json
import statistics
import subprocess
import sys
import time

from engine import contenders, report, resources
from engine.contenders import Contender
from engine.drain import LONGEST_RUN, Drain, warm_up
from engine.options import Options
from engine.site import new_site
from waiting import until

PARTS, LINKS = 10_000, 1_000
HEAD = ["", "seconds", "tasks/s", "CPU us/task", "Redis us/task", "peak MiB"]
OURS, PREFORK = "ours", "celery prefork -c 2"


def main(options: Options) -> None:
    parts, links = min(options.tasks, PARTS), min(options.tasks, LINKS)
    canvases = {
        f"chord of {parts:,}": ("chord", parts, parts + 1),
        f"chain of {links:,}": ("chain", links, links),
    }
    contestants = {
        OURS: lambda: contenders.ours(options.slots),
        PREFORK: lambda: contenders.celery("prefork", 2),
    }
    runs: dict[str, list[Drain]] = {}
    for _ in range(options.runs):
        for what, (kind, size, tasks) in canvases.items():
            for name, contender in contestants.items():
                if options.wants(name):
                    done = run(contender(), kind, size, tasks)
                    runs.setdefault(f"{what}, {name}", []).append(done)
    print(report.table(HEAD, [row(name, found) for name, found in runs.items()]))
    for what in canvases:
        ours, theirs = runs.get(f"{what}, {OURS}"), runs.get(f"{what}, {PREFORK}")
        if ours and theirs:
            times = statistics.median(
                other.seconds / one.seconds for one, other in zip(ours, theirs, strict=True)
            )
            print(f"{what}: ours is {times:.1f} times as fast as {PREFORK}")
    figures = {name: [done.as_json() for done in found] for name, found in runs.items()}
    report.save("canvas", figures, options.json)


def run(contender: Contender, kind: str, size: int, tasks: int) -> Drain:
    """From when all that a Python producer sent is there until the last result is stored."""
    with new_site() as site:
        contender.start(site)
        warm_up(contender, site)
        command = [sys.executable, "-m", "engine.canvas_sender", site.redis.url, kind, str(size)]
        sent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        key = sent.stdout.strip()
        workers = site.worker_pids()
        worker_cpu = resources.cpu_seconds(workers)
        redis_cpu = resources.cpu_seconds([site.redis.pid])
        began = time.perf_counter()
        contender.release(site)
        until(lambda: site.redis.client.exists(key), "the canvas is done", LONGEST_RUN)
        seconds = time.perf_counter() - began
        state = json.loads(site.redis.client.get(key))["status"]
        if state != "SUCCESS":
            raise RuntimeError(f"{contender.name}: the {kind} ended as {state}")
        return Drain(
            tasks=tasks,
            seconds=seconds,
            worker_cpu_seconds=resources.cpu_seconds(workers) - worker_cpu,
            redis_cpu_seconds=resources.cpu_seconds([site.redis.pid]) - redis_cpu,
            peak_mib=resources.peak_mib(workers),
            proportional_mib=resources.proportional_mib(workers),
        )


def row(name: str, drains: list[Drain]) -> list[str]:
    return [
        name,
        report.spread([drain.seconds for drain in drains], 2),
        report.spread([drain.per_second for drain in drains]),
        report.spread([drain.worker_us for drain in drains], 1),
        report.spread([drain.redis_us for drain in drains], 1),
        report.spread([drain.peak_mib for drain in drains], 1),
    ]
