"""The workers of a site, asked as `celery inspect` asks them."""

from typing import Any

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

        def told() -> dict[str, Any] | None:
            site.check_workers()
            # A broadcast is heard by who listens at that moment, and an answer that is late to the
            # one before takes the place of one to this.
            answers = app.control.inspect(timeout=1, limit=count).stats() or {}
            return answers if len(answers) == count else None

        found = until(told, f"{count} workers tell what they did", 120)
    return {node: sum(stats["total"].values()) for node, stats in found.items()}
