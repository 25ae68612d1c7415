"""How often tasks begin and how many run at the same time: in one process, and in the fleet."""

import json

import pytest
from celery.exceptions import TaskRevokedError

from messages import idle, unacked, waiting
from waiting import until

RATE = 20
# A task's entry in the ledger may come that much later than its beginning on a busy machine.
SLACK = 0.3


def events(redis, event="begun"):
    """(seconds, key, pid) of each entry in the ledger, by Redis's clock."""
    return [
        (int(entry.split("-")[0]) / 1000, fields["key"], int(fields["pid"]))
        for entry, fields in redis.xrange("ledger")
        if fields["event"] == event
    ]


def wait_for(redis, count, event="begun"):
    return until(
        lambda: (found := events(redis, event)) and len(found) >= count and found,
        f"{count} tasks have {event}",
        60,
    )


def assert_rate(times, rate=RATE):
    """No window holds more beginnings than the rate allows."""
    for first in range(len(times)):
        for last in range(first + 1, len(times)):
            elapsed = times[last] - times[first]
            assert last - first <= (elapsed + SLACK) * rate, (first, last, elapsed)


def test_a_worker_begins_a_task_no_more_often_than_its_rate_limit_allows(app, programs, redis):
    programs.interop_worker("-c", "4")
    for number in range(30):
        app.send_task("bench.rate_limited", (str(number),))

    begun = wait_for(redis, 30)

    assert_rate([time for time, _, _ in begun])
    assert begun[-1][0] - begun[0][0] < 29 / RATE * 2
    # First come, first served, but for those that were fetched together.
    assert all(abs(int(key) - place) <= 4 for place, (_, key, _) in enumerate(begun))
    until(lambda: unacked(redis) == 0, "all are settled")
    assert waiting(redis) == 0


def test_the_settings_say_how_often_a_task_may_begin(app, programs, redis):
    """Celery's `task_annotations`: they come before what the task itself says."""
    annotations = {"bench.rate_limited": {"rate_limit": "5/s"}, "bench.other": {"time_limit": 1}}
    programs.interop_worker("-c", "4", CELERY_TASK_ANNOTATIONS=json.dumps(annotations))
    for number in range(10):
        app.send_task("bench.rate_limited", (str(number),))

    assert_rate([time for time, _, _ in wait_for(redis, 10)], rate=5)


def test_annotations_that_cannot_be_read_stop_the_worker_at_its_start(programs):
    worker = programs.interop_worker(CELERY_TASK_ANNOTATIONS='{"bench.add": {"rate": "5/s"}}')
    assert worker.wait() == 1
    assert "CELERY_TASK_ANNOTATIONS" in worker.output()
    assert "unknown field `rate`" in worker.output()


@pytest.mark.parametrize("task", ["bench.rate_limited", "bench.fleet_rate_limited"])
def test_rate_limits_can_be_disabled(app, programs, redis, task):
    for number in range(100):
        app.send_task(task, (str(number),))
    programs.interop_worker("-c", "4", CELERY_WORKER_DISABLE_RATE_LIMITS="true")

    times = [time for time, _, _ in wait_for(redis, 100)]
    assert times[-1] - times[0] < 99 / RATE / 2


def test_what_waits_for_a_rate_limit_takes_no_slot(app, programs, redis):
    for number in range(400):
        app.send_task("bench.rate_limited", (str(number),))
    last = app.send_task("bench.add", (2, 3))
    programs.interop_worker("-c", "1")

    assert last.get(timeout=30) == 5

    assert len(events(redis)) < 400


def test_the_rate_limit_of_the_fleet_holds_on_all_workers_together(app, programs, redis):
    for _ in range(3):
        programs.interop_worker("-c", "2")
    for number in range(40):
        app.send_task("bench.fleet_rate_limited", (str(number),))

    begun = wait_for(redis, 40)

    assert_rate([time for time, _, _ in begun])
    assert len(begun) == 40


def most_at_once(redis):
    running = most = 0
    for _, fields in redis.xrange("ledger"):
        running += 1 if fields["event"] == "begun" else -1
        most = max(most, running)
    return most


def test_the_fleet_runs_no_more_of_a_task_at_the_same_time_than_it_may(app, programs, redis):
    for _ in range(3):
        programs.interop_worker("-c", "4")
    for number in range(20):
        app.send_task("bench.two_at_a_time", (str(number), 0.1))

    wait_for(redis, 20, "ended")

    assert most_at_once(redis) == 2
    until(lambda: unacked(redis) == 0, "all are settled")


def test_the_places_of_a_worker_that_was_killed_come_back(app, programs, redis):
    killed = programs.interop_worker("-c", "4", WORKER_LEASE_SECONDS="1")
    for number in range(2):
        app.send_task("bench.two_at_a_time", (f"lost-{number}", 3600))
    wait_for(redis, 2)
    killed.kill()
    redis.delete("ledger")
    programs.interop_worker("-c", "4", WORKER_LEASE_SECONDS="1")

    # The lost ones run again; they are the two that may run.
    again = wait_for(redis, 2)

    assert {key for _, key, _ in again} == {"lost-0", "lost-1"}


def test_what_waits_is_lost_with_no_worker(app, programs, redis):
    first = programs.interop_worker("-c", "1", WORKER_LEASE_SECONDS="1")
    for number in range(30):
        app.send_task("bench.rate_limited", (str(number),))
    wait_for(redis, 3)
    first.kill()
    programs.interop_worker("-c", "1", WORKER_LEASE_SECONDS="1")

    until(lambda: len({key for _, key, _ in events(redis)}) == 30, "every task has begun", 60)

    until(lambda: unacked(redis) == 0, "all are settled")


def test_a_waiting_task_can_be_revoked(app, programs, redis):
    programs.interop_worker("-c", "1")
    results = [app.send_task("bench.rate_limited", (str(number),)) for number in range(200)]
    wait_for(redis, 1)

    assert app.control.revoke(results[-1].id, reply=True, timeout=30, limit=1)
    with pytest.raises(TaskRevokedError):
        results[-1].get(timeout=30)
    until(lambda: idle(redis), "all are settled")

    assert "199" not in {key for _, key, _ in events(redis)}
