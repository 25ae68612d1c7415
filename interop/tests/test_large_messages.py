"""Large arguments and results: beside the scripts, and as safe as small ones."""

import pytest

from chaos.events import begun, ended
from messages import unacked, waiting
from waiting import until

LEASE = {"WORKER_LEASE_SECONDS": "1"}
LARGE = {"filling": "x" * 200_000}


def apart(redis):
    """The messages that no record in kombu's form has yet."""
    return redis.keys("_celery_redis.apart.*")


def test_large_arguments_and_results_come_and_go(app, programs, redis):
    programs.interop_worker("-c", "4")
    value = "\u00e9" + "y" * 1_000_000

    results = [app.send_task("bench.echo", ([number, value],)) for number in range(40)]

    for number, result in enumerate(results):
        assert result.get(timeout=30) == [number, value]
    until(lambda: unacked(redis) == 0, "everything is acknowledged")
    assert apart(redis) == []
    assert redis.keys("_celery_redis.upload.*") == []
    assert redis.ttl(f"celery-task-meta-{results[0].id}") > 0


@pytest.mark.parametrize("when", ["at once", "after its records were written"])
def test_large_messages_of_a_killed_worker_run_again(app, programs, redis, when):
    killed = programs.interop_worker("-c", "5", **LEASE)
    app.send_task("bench.noop", headers=LARGE).get(timeout=20)
    for number in range(5):
        app.send_task("bench.record", (str(number), 3, 0), headers=LARGE)
    if when == "at once":
        until(lambda: len(begun(redis)) == 5, "all run")
    else:
        until(lambda: len(begun(redis)) == 5 and not apart(redis), "all are recorded")
    killed.kill()

    programs.interop_worker("-c", "5", **LEASE)

    until(lambda: len(ended(redis)) == 5, "all were done", 30)
    assert sorted(event.key for event in begun(redis)[5:]) == ["0", "1", "2", "3", "4"]
    until(lambda: unacked(redis) == 0, "everything is acknowledged")
    assert waiting(redis) == 0
    assert apart(redis) == []
    assert redis.zcard("unacked_index") == 0


def test_large_messages_survive_a_worker_that_is_killed_again_and_again(app, programs, redis):
    """Wherever it is on its way: between the commands of a fetch, of a record, of a settlement."""
    results = [app.send_task("bench.echo", ("z" * 300_000,), headers=LARGE) for _ in range(300)]
    for kills in range(6):
        worker = programs.interop_worker("-c", "3", **LEASE)
        done = 20 * (kills + 1)
        until(lambda most=done: sum(result.ready() for result in results) >= most, "some are done")
        worker.kill()
    programs.interop_worker("-c", "3", **LEASE)

    for result in results:
        assert len(result.get(timeout=60)) == 300_000
    until(lambda: unacked(redis) == 0, "everything is acknowledged")
    assert waiting(redis) == 0
    assert apart(redis) == []
    until(lambda: len(redis.keys("_celery_redis.held.*")) == 0, "nobody holds anything")
