"""A chord of many parts and a long chain, by our worker and by Celery's."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.result import AsyncResult

from engine import contenders, report, resources
from engine.contenders import QUEUE, WAITING, Contender
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
        f"chord of {parts:,}": (lambda app: a_chord(app, parts), parts + 1),
        f"chain of {links:,}": (lambda app: a_chain(app, links), links),
    }
    contestants = {
        OURS: lambda: contenders.ours(options.slots),
        PREFORK: lambda: contenders.celery("prefork", 2),
    }
    runs: dict[str, list[Drain]] = {}
    for _ in range(options.runs):
        for what, (canvas, tasks) in canvases.items():
            for name, contender in contestants.items():
                if options.wants(name):
                    done = run(contender(), canvas, tasks)
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


def a_chord(app: Celery, parts: int) -> Signature:
    return chord(
        group(app.signature("bench.add", (part, 1), queue=WAITING) for part in range(parts)),
        app.signature("bench.echo", queue=QUEUE),
    )


def a_chain(app: Celery, links: int) -> Signature:
    first = app.signature("bench.add", (0, 1), queue=WAITING)
    return chain(first, *(app.signature("bench.add", (1,), queue=QUEUE) for _ in range(links - 1)))


def run(contender: Contender, canvas: Callable[[Celery], Signature], tasks: int) -> Drain:
    """From when all that a Python producer sent is there until the last result is stored."""
    with new_site() as site, Celery(broker=site.redis.url, backend=site.redis.url) as app:
        contender.start(site)
        warm_up(contender, site)
        result: AsyncResult[Any] = canvas(app).apply_async()
        key = app.backend.get_key_for_task(result.id)
        workers = site.worker_pids()
        worker_cpu = resources.cpu_seconds(workers)
        redis_cpu = resources.cpu_seconds([site.redis.pid])
        began = time.perf_counter()
        contender.release(site)
        until(lambda: site.redis.client.exists(key), "the canvas is done", LONGEST_RUN)
        seconds = time.perf_counter() - began
        if not result.successful():
            raise RuntimeError(f"{contender.name}: the canvas ended as {result.state}")
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
