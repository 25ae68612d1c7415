"""A real Celery worker on the same queues: it does what we send, and shares what Celery sends."""

import pytest

from messages import unacked, waiting
from steering import ready
from waiting import until


@pytest.fixture
def python_worker(app, programs):
    process = programs.python_worker("-P", "solo")
    # Celery's workers tell when they consume; ours need no such wait.
    until(lambda: "ready." in process.output(), "Celery's worker is ready")
    return process


def test_a_task_that_we_send_is_done_by_python(programs, python_worker):
    done = programs.jwt_manage("rotate", "--force", "--queue", "--json")

    assert done.status == 0, done.stderr
    assert done.json()["action"] == "rotation_performed"


def test_an_error_of_python_reaches_our_caller(programs, python_worker):
    done = programs.jwt_manage("create-scopes", "--queue")

    assert done.status == 70
    assert "there are no scopes here" in done.stderr


def test_what_beat_sends_is_done_by_python(programs, redis, python_worker):
    from test_beat import first_beat, overdue, stop

    stop(first_beat(programs, redis))
    overdue(redis)

    programs.beat()

    until(
        lambda: (
            "jwt_auth.tasks.rotate_jwt_keypairs" in python_worker.output()
            and "succeeded" in python_worker.output()
        ),
        "Celery's worker has rotated",
    )


def test_a_worker_of_each_kind_share_a_queue(app, programs, redis, python_worker):
    ready(programs.interop_worker("-c", "2"))

    results = [app.send_task("bench.incr", ("calls",)) for _ in range(400)]

    assert sorted(result.get(timeout=60) for result in results) == list(range(1, 401))
    assert 0 < int(redis.get("done by python")) < 400
    until(lambda: unacked(redis) == 0, "everything is acknowledged")
    assert waiting(redis) == 0
