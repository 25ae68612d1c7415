"""What Redis could do if there were no worker to wait for."""

from engine import resources, template
from engine.contenders import WAITING
from engine.drain import Drain
from engine.probe import probe
from engine.site import new_site


def ceiling(tasks: int, *, ignore_result: bool = False) -> Drain:
    """Take, record as unacked, store and publish, acknowledge: pipelined from one raw socket."""
    with new_site() as site:
        template.capture(site, ignore_result=ignore_result)
        probe(site, "fill", list=WAITING, count=tasks)
        before = resources.cpu_seconds([site.redis.pid])
        dues = "ignored-result" if ignore_result else "result"
        figures = probe(site, "ceiling", list=WAITING, count=tasks, dues=dues)
        return Drain(
            tasks=tasks,
            seconds=figures["seconds"],
            worker_cpu_seconds=0,
            redis_cpu_seconds=resources.cpu_seconds([site.redis.pid]) - before,
            peak_mib=0,
            proportional_mib=0,
        )
