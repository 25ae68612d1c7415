"""The tasks of interop-worker that canvases are made of, for a real Celery worker."""

import os

from celery import Celery
from redis import Redis

URL = os.environ["CELERY_BROKER_URL"]

app = Celery("canvas_worker", broker=URL, backend=os.environ["CELERY_RESULT_BACKEND"])
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
app.conf.task_send_sent_event = os.environ.get("CELERY_TASK_SEND_SENT_EVENT") == "true"


@app.task(name="bench.add")
def add(x: float, y: float) -> float:
    return x + y


@app.task(name="bench.fail")
def fail(message: str) -> None:
    raise ValueError(message)


@app.task(name="bench.incr")
def incr(key: str) -> int:
    with Redis.from_url(URL) as redis:
        return redis.incr(key)


@app.task(name="bench.replace", bind=True)
def replace(self, signature: dict) -> None:
    raise self.replace(self.app.signature(signature))


@app.task(name="bench.spawn", bind=True)
def spawn(self, signature: dict) -> object:
    return self.app.signature(signature).apply_async().as_tuple()
