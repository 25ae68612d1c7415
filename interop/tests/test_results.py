"""What a Python caller gets from `.get()` when a Rust worker did the task."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from celery.exceptions import NotRegistered, TaskRevokedError

from messages import envelope, push, unacked, waiting
from waiting import until


@pytest.fixture
def worker(programs):
    return programs.interop_worker("-c", "4")


def test_a_value_comes_back(app, worker):
    assert app.send_task("bench.add", (2, 3)).get(timeout=30) == 5


def test_keyword_arguments_are_taken_by_name(app, worker):
    assert app.send_task("bench.add", kwargs={"y": 40, "x": 2}).get(timeout=30) == 42


def test_a_task_without_a_value_returns_none(app, worker):
    result = app.send_task("bench.noop")

    assert result.get(timeout=30) is None
    assert result.state == "SUCCESS"


def test_nothing_stays_behind_when_a_task_is_done(app, worker, redis):
    app.send_task("bench.add", (1, 1)).get(timeout=30)

    until(lambda: unacked(redis) == 0, "the message is acknowledged")
    assert waiting(redis) == 0
    assert redis.zcard("unacked_index") == 0


def test_a_result_expires_after_a_day(app, worker, redis):
    result = app.send_task("bench.noop")
    result.get(timeout=30)

    assert 86_000 < redis.ttl(f"celery-task-meta-{result.id}") <= 86_400


def test_an_error_of_the_task_is_raised_for_the_caller(app, worker):
    result = app.send_task("bench.fail", ("the disk is full",))

    with pytest.raises(ValueError, match="the disk is full"):
        result.get(timeout=30)
    assert result.state == "FAILURE"


def test_a_panic_is_a_failure_and_the_worker_goes_on(app, worker):
    with pytest.raises(Exception, match="the index is out of bounds"):
        app.send_task("bench.panic", ("the index is out of bounds",)).get(timeout=30)

    assert worker.is_running()
    assert app.send_task("bench.add", (1, 1)).get(timeout=30) == 2


def test_a_task_that_asks_for_a_retry_is_tried_again(app, worker):
    assert app.send_task("bench.retry", (2, 0.1)).get(timeout=30) == 2


def test_retries_end_with_the_error_of_the_task(app, worker):
    with pytest.raises(KeyError, match="again"):
        app.send_task("bench.retry", (5, 0), {"max_retries": 1}).get(timeout=30)


def test_a_state_of_its_own_reaches_the_caller(app, worker):
    result = app.send_task("bench.progress", (2, 1))

    until(lambda: result.state == "PROGRESS", "the task shows how far it is")
    assert result.info["of"] == 2
    assert result.get(timeout=30) == 2


def test_a_task_with_a_countdown_waits_for_it(app, worker, redis):
    sent = datetime.now(timezone.utc)
    result = app.send_task("bench.add", (1, 2), countdown=2)

    assert result.get(timeout=30) == 3
    assert result.date_done - sent >= timedelta(seconds=2)
    until(lambda: unacked(redis) == 0, "the message is acknowledged")


def test_a_message_that_expired_is_revoked(app, redis, programs):
    result = app.send_task("bench.incr", ("calls",), expires=0.01)
    until(lambda: datetime.now(timezone.utc) > result_expiry(redis), "it has expired")
    programs.interop_worker()

    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert redis.get("calls") is None


def result_expiry(redis):
    message = json.loads(redis.lindex("celery", 0))
    return datetime.fromisoformat(message["headers"]["expires"])


def test_an_unknown_task_is_not_registered(app, worker):
    with pytest.raises(NotRegistered, match=r"shop\.tasks\.ship"):
        app.send_task("shop.tasks.ship").get(timeout=30)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 2, 3), {}),
        ((1,), {"x": 2}),
        ((1, 2), {"z": 3}),
        ((), {}),
    ],
    ids=["missing", "too many", "given twice", "unknown name", "none"],
)
def test_wrong_arguments_are_a_type_error(app, worker, args, kwargs):
    with pytest.raises(TypeError):
        app.send_task("bench.add", args, kwargs).get(timeout=30)


def test_a_message_of_protocol_1_is_done(app, worker):
    app.conf.task_protocol = 1

    assert app.send_task("bench.add", (4, 5)).get(timeout=30) == 9


def test_a_message_with_the_fewest_headers_is_done(app, worker, redis):
    message = envelope("bench.add", 20, 3)
    task_id = message["headers"]["id"]
    message["headers"] = {"lang": "rs", "task": "bench.add", "id": task_id}
    push(redis, message)

    assert app.AsyncResult(task_id).get(timeout=30) == 23


def test_a_result_that_nobody_wants_is_not_stored(app, worker, redis):
    ignored = app.send_task("bench.incr", ("calls",), ignore_result=True)

    until(lambda: redis.get("calls") == "1", "the task is done")
    until(lambda: unacked(redis) == 0, "the message is acknowledged")
    assert redis.exists(f"celery-task-meta-{ignored.id}") == 0


def test_many_callers_each_get_their_own_answer(app, worker):
    results = [app.send_task("bench.add", (n, n)) for n in range(200)]

    assert [result.get(timeout=60) for result in results] == [2 * n for n in range(200)]


def test_a_stored_result_has_the_shape_that_celery_gives_it(app, worker):
    result = app.send_task("bench.add", (1, 2))
    result.get(timeout=30)

    meta = app.backend.get_task_meta(result.id)
    assert meta["status"] == "SUCCESS"
    assert meta["task_id"] == result.id
    assert meta["traceback"] is None
    assert meta["children"] == []
    assert result.date_done.utcoffset().total_seconds() == 0
