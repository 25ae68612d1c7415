"""The workers of a site, asked as `celery inspect` asks them."""

from celery import Celery

from engine.site import Site
from waiting import until


def await_nodes(site: Site, count: int) -> None:
    """Returns when so many workers answer."""
    if not count:
        return
    with Celery(broker=site.redis.url, set_as_current=False) as app:

        def answering() -> bool:
            site.check_workers()
            return len(app.control.ping(timeout=1, limit=count)) == count

        until(answering, f"{count} workers answer", 120)


def done_by_each(site: Site) -> dict[str, int]:
    """How many tasks each has done."""
    count = len(site.workers)
    with Celery(broker=site.redis.url, set_as_current=False) as app:
        found = app.control.inspect(timeout=10, limit=count).stats() or {}
    if len(found) != count:
        raise RuntimeError(f"{len(found)} of {count} workers told what they did")
    return {node: sum(stats["total"].values()) for node, stats in found.items()}
