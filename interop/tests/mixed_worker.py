"""A real Celery worker that shares queues with ours and takes back what kombu thinks is stale."""

import os
import time

from celery import Celery
from redis import Redis

URL = os.environ["CELERY_BROKER_URL"]

app = Celery("mixed_worker", broker=URL, backend=URL)
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = {
    # Our programs are told the same, by the same name.
    "visibility_timeout": float(os.environ.get("BROKER_VISIBILITY_TIMEOUT", "3600")),
    # It looks for stale messages each second.
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}


@app.task(name="bench.record")
def record(key: str, seconds: float, retries: int) -> None:
    with Redis.from_url(URL) as redis:
        line = {"key": key, "retries": 0, "pid": os.getpid()}
        redis.xadd("ledger", {"event": "begun"} | line)
        time.sleep(seconds)
        redis.xadd("ledger", {"event": "ended"} | line)
