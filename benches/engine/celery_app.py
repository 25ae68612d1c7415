"""The tasks of the benches for Celery's own worker, set up for speed as its documentation says."""

import os
from typing import Any

from celery import Celery

URL = os.environ["CELERY_BROKER_URL"]

app = Celery("celery_app", broker=URL, backend=URL)
app.conf.task_acks_late = True
# "If you have many short-running tasks, prefetch 64 or 128" (userguide/optimizing).
app.conf.worker_prefetch_multiplier = 128
app.conf.worker_disable_rate_limits = True
app.conf.broker_connection_retry_on_startup = True


@app.task(name="bench.noop")
def noop() -> None:
    pass


@app.task(name="bench.add")
def add(x: float, y: float) -> float:
    return x + y


@app.task(name="bench.echo")
def echo(value: Any) -> Any:
    return value
