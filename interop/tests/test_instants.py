"""`eta` and `expires`, however a caller writes them."""

import datetime as dt
import uuid

import pytest
from celery.exceptions import TaskRevokedError

from messages import envelope, push

UTC = dt.timezone.utc
INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))
WAIT = dt.timedelta(seconds=2)


@pytest.fixture(autouse=True)
def worker(programs):
    return programs.interop_worker()


WAYS = {
    "in UTC": lambda at: at.isoformat(),
    "with a Z": lambda at: at.isoformat().replace("+00:00", "Z"),
    "naive": lambda at: at.replace(tzinfo=None).isoformat(),
    "naive with a blank": lambda at: at.replace(tzinfo=None).isoformat(" "),
    "elsewhere": lambda at: at.astimezone(INDIA).isoformat(),
    "elsewhere without a colon": lambda at: at.astimezone(INDIA).strftime("%Y%m%dT%H%M%S.%f%z"),
    "at an offset with seconds": lambda at: at.astimezone(
        dt.timezone(-dt.timedelta(hours=3, minutes=6, seconds=28))
    ).isoformat(),
}


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_a_task_runs_at_its_eta(app, redis, write):
    due = dt.datetime.now(UTC) + WAIT
    result = send(app, redis, eta=write(due))

    assert result.get(timeout=30) == 3
    assert dt.timedelta(0) <= result.date_done - due < dt.timedelta(seconds=10)


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_an_expired_task_is_revoked_and_another_is_not(app, redis, write):
    now = dt.datetime.now(UTC)
    late = send(app, redis, expires=write(now - WAIT))
    early = send(app, redis, expires=write(now + dt.timedelta(seconds=60)))

    with pytest.raises(TaskRevokedError, match="expired"):
        late.get(timeout=30)
    assert early.get(timeout=30) == 3


def test_celery_itself_sends_any_of_them(app):
    due = dt.datetime.now(INDIA) + WAIT
    results = [
        app.send_task("bench.add", (1, 2), eta=due),
        app.send_task("bench.add", (1, 2), eta=due.astimezone(UTC).replace(tzinfo=None)),
        app.send_task("bench.add", (1, 2), expires=due + 10 * WAIT, eta=due),
    ]

    for result in results:
        assert result.get(timeout=30) == 3
        assert result.date_done >= due


def send(app, redis, **headers):
    task_id = str(uuid.uuid4())
    message = envelope("bench.add", 1, 2, task_id=task_id)
    message["headers"] |= headers
    push(redis, message)
    return app.AsyncResult(task_id)
