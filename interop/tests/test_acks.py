"""What becomes of a message when its task ends in another way than by returning."""

import pytest
from celery.exceptions import Reject

from messages import unacked, waiting
from waiting import until


@pytest.fixture
def worker(programs):
    return programs.interop_worker("-c", "2")


def settled(redis) -> bool:
    return unacked(redis) == 0 and waiting(redis) == 0


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
