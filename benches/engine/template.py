"""A message as a real Celery producer sends it, for the probe to copy."""

import json
from typing import Any

from celery import Celery

from engine.site import Site

RECORD = {
    "status": "SUCCESS",
    "result": None,
    "traceback": None,
    "children": [],
    "date_done": "2026-11-23T12:00:00.123456+00:00",
}


def capture(
    site: Site,
    task: str = "bench.noop",
    args: tuple[Any, ...] = (),
    *,
    ignore_result: bool = False,
) -> None:
    """Has Celery send one message and writes it down, with the record of its result."""
    with Celery(broker=site.redis.url, backend=site.redis.url, set_as_current=False) as app:
        result = app.send_task(task, args, ignore_result=ignore_result)
    message = site.redis.client.rpop("celery").decode()
    record = RECORD | {"result": args[0] if args else None, "task_id": result.id}
    template = {
        "message": message,
        "id": result.id,
        "delivery_tag": json.loads(message)["properties"]["delivery_tag"],
        "record": json.dumps(record),
    }
    site.template.write_text(json.dumps(template))
