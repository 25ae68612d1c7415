"""One measured run: a full queue, a worker that is ready, and the time until all is done."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from engine import resources
from engine.contenders import Contender
from engine.site import Site, new_site
from waiting import until

# Seldom enough that asking costs nothing, often enough that a run of seconds is exact to 1%.
POLL_SECONDS = 0.01
WARM_UP = 200
LONGEST_RUN = 600


@dataclass
class Drain:
    """What one run took."""

    tasks: int
    seconds: float
    worker_cpu_seconds: float
    redis_cpu_seconds: float
    peak_mib: float
    proportional_mib: float

    @property
    def per_second(self) -> float:
        return self.tasks / self.seconds

    @property
    def worker_us(self) -> float:
        """Processor time of the workers for each task."""
        return 1e6 * self.worker_cpu_seconds / self.tasks

    @property
    def redis_us(self) -> float:
        """Processor time of Redis for each task."""
        return 1e6 * self.redis_cpu_seconds / self.tasks

    def as_json(self) -> dict[str, Any]:
        rates = {"per_second": self.per_second, "worker_us": self.worker_us}
        return asdict(self) | rates | {"redis_us": self.redis_us}


def drain(contender: Contender, tasks: int) -> Drain:
    """Runs so many tasks on a new Redis through a new worker."""
    with new_site() as site:
        contender.start(site)
        warm_up(contender, site)
        contender.prepare(site, WARM_UP, tasks)
        return measure(contender, site, tasks)


def warm_up(contender: Contender, site: Site) -> None:
    """Returns when the workers have done their first tasks, so that their start is not measured."""
    contender.prepare(site, 0, WARM_UP)
    contender.release(site)

    def done() -> bool:
        site.check_workers()
        return contender.left(site) == 0

    until(done, f"{contender.name} has done its first tasks", 60)


def measure(contender: Contender, site: Site, tasks: int) -> Drain:
    redis = [site.redis.pid]
    worker_cpu = resources.cpu_seconds(site.worker_pids())
    redis_cpu = resources.cpu_seconds(redis)
    began = time.perf_counter()
    contender.release(site)
    while contender.left(site):
        time.sleep(POLL_SECONDS)
        if time.perf_counter() > began + LONGEST_RUN:
            raise RuntimeError(f"{contender.name}: {contender.left(site)} of {tasks} are left")
    seconds = time.perf_counter() - began
    site.check_workers()
    workers = site.worker_pids()
    return Drain(
        tasks=tasks,
        seconds=seconds,
        worker_cpu_seconds=resources.cpu_seconds(workers) - worker_cpu,
        redis_cpu_seconds=resources.cpu_seconds(redis) - redis_cpu,
        peak_mib=resources.peak_mib(workers),
        proportional_mib=resources.proportional_mib(workers),
    )
