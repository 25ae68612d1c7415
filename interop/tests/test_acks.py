"""What becomes of a message when its task ends in another way than by returning."""

import json

import pytest
from billiard.exceptions import WorkerLostError
from celery.exceptions import Reject

from messages import idle, unacked
from waiting import until


@pytest.fixture
def worker(programs):
    return programs.interop_worker("-c", "2")


def settled(redis) -> bool:
    return idle(redis)


def test_a_task_that_ignores_its_message_leaves_no_result(app, worker, redis):
    result = app.send_task("bench.refuse", ("ignore",))
    app.send_task("bench.noop").get(timeout=30)

    until(lambda: settled(redis), "both messages are settled")
    assert result.state == "PENDING"
    result.forget()


def test_a_task_that_rejects_its_message_tells_its_caller(app, worker, redis):
    with pytest.raises(Reject) as raised:
        app.send_task("bench.refuse", ("reject",)).get(timeout=30)

    assert raised.value.args[0] == "no"
    until(lambda: settled(redis), "the message is settled")


def test_a_task_that_gives_its_message_back_is_run_once_more(app, worker, redis):
    assert app.send_task("bench.refuse", ("requeue",)).get(timeout=30) == "second"
    until(lambda: settled(redis), "the message is settled")


def test_nobody_gets_a_message_back_that_was_acknowledged_early(app, programs, redis):
    worker = programs.interop_worker(CELERY_TASK_ACKS_LATE="false")
    result = app.send_task("bench.refuse", ("requeue",))

    until(lambda: "acknowledged before it ran" in worker.output(), "the worker says why not")
    assert settled(redis)
    assert result.state == "PENDING"
    result.forget()


def dead_letters(redis):
    return [json.loads(record) for record in redis.hvals("_celery_redis.dead_records")]


def test_a_rejected_message_is_a_dead_letter(app, worker, redis):
    with pytest.raises(Reject):
        app.send_task("bench.refuse", ("reject",)).get(timeout=30)

    until(lambda: dead_letters(redis), "there is a dead letter")
    assert dead_letters(redis)[0]["reason"] == "rejected"
    assert settled(redis)


@pytest.mark.parametrize("acks, letters", [("true", 0), ("false", 1)])
def test_a_failure_need_not_be_acknowledged(app, programs, redis, acks, letters):
    programs.interop_worker(CELERY_TASK_ACKS_ON_FAILURE=acks)

    with pytest.raises(ValueError, match="no"):
        app.send_task("bench.fail", ("no",)).get(timeout=30)

    until(lambda: settled(redis), "the message is settled")
    assert len(dead_letters(redis)) == letters


def test_a_dead_letter_of_a_failed_task_can_be_retried(app, programs, redis):
    programs.interop_worker(CELERY_TASK_ACKS_ON_FAILURE="false")
    with pytest.raises(ValueError):
        app.send_task("bench.fail", ("no",)).get(timeout=30)
    until(lambda: redis.zcard("_celery_redis.dead") == 1, "it is a dead letter")
    name = redis.zrange("_celery_redis.dead", 0, 0)[0]

    assert programs.jwt_manage("queue", "dead", "retry", name).status == 0

    until(lambda: redis.zrange("_celery_redis.dead", 0, -1) not in ([], [name]), "it failed again")


def test_a_task_whose_worker_died_runs_again(app, programs, redis):
    worker = programs.interop_worker("-c", "1", WORKER_LEASE_SECONDS="1")
    result = app.send_task("bench.once_slow", ("again",))
    until(lambda: unacked(redis) == 1, "it runs")
    worker.kill()
    programs.interop_worker("-c", "1", WORKER_LEASE_SECONDS="1")

    assert result.get(timeout=30) == "again"


def test_a_task_whose_worker_died_need_not_run_again(app, programs, redis):
    limits = {"WORKER_LEASE_SECONDS": "1", "CELERY_TASK_REJECT_ON_WORKER_LOST": "false"}
    worker = programs.interop_worker("-c", "1", **limits)
    result = app.send_task("bench.once_slow", ("again",))
    until(lambda: unacked(redis) == 1, "it runs")
    worker.kill()
    programs.interop_worker("-c", "1", **limits)

    with pytest.raises(WorkerLostError, match="exited prematurely"):
        result.get(timeout=30)


def test_a_task_whose_worker_died_can_be_retried(app, programs, redis):
    """Celery's `task_retry_on_worker_lost`, here chosen for one task and with one retry."""
    options = {"retry_on_worker_lost": True, "max_retries": 1, "default_retry_delay": 0.5}
    settings = {
        "WORKER_LEASE_SECONDS": "1",
        "CELERY_TASK_ANNOTATIONS": json.dumps({"bench.once_slow": options}),
    }
    worker = programs.interop_worker("-c", "1", **settings)
    result = app.send_task("bench.once_slow", ("again",))
    until(lambda: unacked(redis) == 1, "it runs")
    worker.kill()

    worker = programs.interop_worker("-c", "1", **settings)
    until(lambda: result.state == "RETRY", "it is to be retried")
    assert isinstance(result.result, WorkerLostError)
    until(lambda: unacked(redis) == 1, "the retry runs")
    worker.kill()

    programs.interop_worker("-c", "1", **settings)
    with pytest.raises(WorkerLostError, match="exited prematurely"):
        result.get(timeout=30)
    until(lambda: settled(redis), "nothing is left of it")


def test_an_early_acknowledged_task_is_acknowledged_before_it_runs(app, programs, redis):
    programs.interop_worker(CELERY_TASK_ACKS_LATE="false", CELERY_TASK_TRACK_STARTED="true")
    result = app.send_task("bench.hold", ("release",))

    until(lambda: result.state == "STARTED", "it runs")
    assert settled(redis)
    redis.set("release", 1)
    assert result.get(timeout=30) == "release"
