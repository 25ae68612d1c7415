"""No message stops a worker, and none vanishes."""

import pytest

import damage
from conftest import PROGRAMS, celery_app
from messages import push, unacked, waiting
from programs import Programs
from waiting import until

# The worker's dead letters, by what they were received as.
DEAD_LETTERS = "_celery_redis.dead_messages"


@pytest.fixture(scope="module")
def database(redis_databases):
    return next(redis_databases)


@pytest.fixture(scope="module")
def worker(folder, redis_server, database):
    """One worker for all of them: what one message breaks, the next one shows."""
    path = folder / "malformed"
    path.mkdir(exist_ok=True)
    programs = Programs(path, redis_server.url(database))
    yield programs.interop_worker("-c", "2"), programs
    programs.end()


@pytest.fixture(scope="module")
def site_app(redis_server, database):
    with celery_app(redis_server.url(database)) as app:
        yield app


@pytest.mark.parametrize("case", damage.cases(), ids=lambda case: case.name)
def test_a_malformed_message_is_answered_executed_or_buried(
    request, worker, site_app, redis_server, database, case
):
    process, programs = worker
    request.node.stash[PROGRAMS] = programs
    with redis_server.client(database) as redis:
        buried = redis.hlen(DEAD_LETTERS)
        push(redis, case.pushed)

        until(
            lambda: waiting(redis) + unacked(redis) + redis.zcard("unacked_index") == 0,
            "the message is settled",
        )

        assert process.is_running()
        if case.task_id is not None:
            # Raises where the caller of this id would wait in vain or could not read the answer.
            site_app.AsyncResult(case.task_id).get(timeout=30, propagate=False)
        else:
            executed = redis.get(case.key) == "1"
            assert executed or redis.hlen(DEAD_LETTERS) == buried + 1
        assert redis.get(case.key) in {None, "1"}


def test_the_worker_still_works_after_all_of_them(worker, site_app):
    process, _ = worker

    assert site_app.send_task("bench.add", (2, 2)).get(timeout=30) == 4
    assert process.is_running()


def test_there_are_enough_of_them():
    assert len(damage.cases()) >= 64
