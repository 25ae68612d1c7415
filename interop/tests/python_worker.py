"""Tasks for a real Celery worker, which tests start beside ours or in its place."""

import os
import time

from celery import Celery
from redis import Redis

URL = os.environ["CELERY_BROKER_URL"]

app = Celery("python_worker", broker=URL, backend=URL)
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
app.conf.result_compression = os.environ.get("CELERY_RESULT_COMPRESSION")


@app.task(name="bench.incr")
def incr(key: str) -> int:
    # So that a test can tell who did it.
    with Redis.from_url(URL) as redis:
        redis.incr("done by python")
        return redis.incr(key)


@app.task(name="bench.noop")
def noop() -> None:
    pass


@app.task(name="bench.sleep")
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="jwt_auth.tasks.rotate_jwt_keypairs", bind=True)
def rotate_jwt_keypairs(self, force: bool = False) -> dict[str, object]:
    return {
        "success": True,
        "action": "rotation_performed" if force else "rotation_not_needed",
        "active_keypairs_count": 1,
        "new_keypair_id": self.request.id,
        "rotation_time": "2026-11-23T00:00:00+00:00",
        "check_time": "2026-11-23T00:00:00+00:00",
    }


@app.task(name="jwt_auth.tasks.initialize_jwt_scopes")
def initialize_jwt_scopes() -> None:
    raise LookupError("there are no scopes here")
