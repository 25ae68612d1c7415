"""Soft and hard time limits, and what a worker does about threads that it cannot stop."""

import os
import signal
import time

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from messages import unacked, waiting
from steering import keep_short
from waiting import until


@pytest.fixture
def worker(programs):
    return programs.interop_worker("-c", "4")


def processes(redis):
    return set(redis.hkeys("_celery_redis.processes"))


def test_a_task_fails_at_its_hard_limit(app, worker):
    result = app.send_task("bench.sleep", (60,), time_limit=0.5)

    with pytest.raises(TimeLimitExceeded) as raised:
        result.get(timeout=30)

    assert raised.value.args == (0.5,)


def test_a_limit_of_whole_seconds_is_told_as_python_tells_it(app, worker):
    with pytest.raises(TimeLimitExceeded) as raised:
        app.send_task("bench.sleep", (60,), time_limit=1).get(timeout=30)

    assert str(raised.value.args[0]) == "1"


def test_a_task_that_does_not_ask_ends_at_its_soft_limit(app, worker):
    with pytest.raises(SoftTimeLimitExceeded) as raised:
        app.send_task("bench.sleep", (60,), soft_time_limit=0.25, time_limit=30).get(timeout=30)

    assert raised.value.args == ()


def test_a_task_has_a_soft_limit_of_its_own(app, worker):
    with pytest.raises(SoftTimeLimitExceeded):
        app.send_task("bench.hasty").get(timeout=30)


def test_a_worker_has_limits_for_all_tasks_that_have_none(app, programs):
    programs.interop_worker(CELERY_TASK_TIME_LIMIT="0.5")

    with pytest.raises(TimeLimitExceeded):
        app.send_task("bench.sleep", (60,)).get(timeout=30)


def test_a_task_that_waits_for_its_soft_limit_ends_itself(app, worker):
    result = app.send_task("bench.tidy", (60,), soft_time_limit=0.25, time_limit=30)
    assert result.get(timeout=30) == "tidied up"
    assert app.send_task("bench.tidy", (0.1,), soft_time_limit=30).get(timeout=30) == "done"


def test_a_task_that_waits_for_its_soft_limit_still_has_a_hard_one(app, worker):
    # Its thread is its own, so it is asked only between its steps.
    result = app.send_task("bench.block", (2,), soft_time_limit=0.2, time_limit=0.5)

    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=30)


def test_a_blocking_task_that_asks_for_its_time_ends_at_its_soft_limit(app, worker):
    begun = time.monotonic()
    with pytest.raises(SoftTimeLimitExceeded):
        app.send_task("bench.patient", (60,), soft_time_limit=0.25).get(timeout=30)

    assert time.monotonic() - begun < 30


def test_a_blocking_task_that_asks_is_free_after_its_hard_limit(app, programs):
    worker = programs.interop_worker("-c", "1")
    result = app.send_task("bench.patient", (3600,), time_limit=0.25)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=30)

    assert app.send_task("bench.add", (2, 3)).get(timeout=30) == 5
    assert worker.output().count("is ready:") == 1


def test_a_worker_with_stuck_threads_begins_anew_and_loses_nothing(app, programs, redis):
    worker = programs.interop_worker("-c", "2", WORKER_STUCK_SLOTS="1")
    until(lambda: len(processes(redis)) == 1, "the worker is registered")
    before = processes(redis)
    stuck = app.send_task("bench.block", (3600,), time_limit=3)
    running = app.send_task("bench.sleep", (5,))
    until(lambda: unacked(redis) == 2, "both run")
    behind = [app.send_task("bench.add", (number, 1)) for number in range(10)]

    with pytest.raises(TimeLimitExceeded):
        stuck.get(timeout=30)
    assert running.get(timeout=30) == 5
    assert [result.get(timeout=30) for result in behind] == list(range(1, 11))

    until(lambda: processes(redis).isdisjoint(before) and processes(redis), "a new process works")
    assert worker.is_running()
    assert worker.output().count("is ready:") == 2
    until(lambda: unacked(redis) == 0, "all is settled")
    assert waiting(redis) == 0
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_an_async_task_that_never_gives_way_is_a_stuck_thread_too(app, programs):
    worker = programs.interop_worker("-c", "1")
    with pytest.raises(TimeLimitExceeded):
        app.send_task("bench.hog", (3600,), time_limit=0.5).get(timeout=30)

    assert app.send_task("bench.add", (2, 3)).get(timeout=30) == 5
    assert worker.output().count("is ready:") == 2


def test_a_stuck_thread_keeps_its_slot_until_it_ends(app, programs):
    worker = programs.interop_worker("-c", "1", WORKER_STUCK_SLOTS="0")
    with pytest.raises(TimeLimitExceeded):
        app.send_task("bench.block", (5,), time_limit=0.5).get(timeout=30)
    behind = app.send_task("bench.noop")

    def done() -> bool:
        # In this order: the slot is free only after the log says so.
        is_done = behind.ready()
        assert "its slot is free" in worker.output() or not is_done, "two at once in one slot"
        return is_done

    until(done, "the next one has run")


def test_a_stuck_thread_does_not_hold_up_the_shutdown(app, programs):
    worker = programs.interop_worker("-c", "2", WORKER_STUCK_SLOTS="0")
    with pytest.raises(TimeLimitExceeded):
        app.send_task("bench.block", (3600,), time_limit=0.5).get(timeout=30)

    worker.send(signal.SIGTERM)

    assert worker.wait() == 0


def test_a_task_that_timed_out_can_go_back_to_its_queue(app, programs, redis):
    programs.interop_worker("-c", "1", CELERY_TASK_ACKS_ON_TIMEOUT="false")
    result = app.send_task("bench.once_slow", ("first",), time_limit=1)

    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=30)

    until(lambda: app.AsyncResult(result.id).state == "SUCCESS", "the second run has ended")


def test_a_worker_all_of_whose_threads_are_stuck_begins_anew(app, programs):
    threads = os.cpu_count()
    worker = programs.interop_worker("-c", str(threads + 1), WORKER_LEASE_SECONDS="1")
    hogs = [app.send_task("bench.hog", (3600,), time_limit=1) for _ in range(threads)]

    for hog in hogs:
        with pytest.raises(TimeLimitExceeded):
            hog.get(timeout=30)
    until(lambda: "beginning anew" in worker.output(), "it gives up")

    assert app.send_task("bench.add", (2, 3)).get(timeout=30) == 5
    assert worker.is_running()


def test_a_worker_all_of_whose_threads_are_blocked_begins_anew(app, programs, redis):
    threads = os.cpu_count()
    # Nothing says how long they may take.
    limits = {"BROKER_VISIBILITY_TIMEOUT": "4"}
    limits |= {"WORKER_LEASE_SECONDS": "1", "WORKER_MAX_DELIVERIES": "1"}
    worker = programs.interop_worker("-c", str(threads + 1), **limits)
    for _ in range(threads):
        app.send_task("bench.hog", (3600,)).forget()

    until(lambda: "beginning anew" in worker.output(), "it gives up")

    until(lambda: redis.zcard("_celery_redis.dead") == threads, "what killed it is put aside")
    assert app.send_task("bench.add", (2, 3)).get(timeout=30) == 5
    assert worker.is_running()


def test_a_task_that_blocks_the_lines_own_thread_has_the_worker_begin_anew(app, programs, redis):
    limits = {"WORKER_LEASE_SECONDS": "1", "WORKER_MAX_DELIVERIES": "1"}
    worker = programs.interop_worker("-c", "4", **limits)
    keep_short(app)
    app.send_task("bench.hog", (3600,), time_limit=1).forget()

    until(lambda: "beginning anew" in worker.output(), "it gives up")

    until(lambda: redis.zcard("_celery_redis.dead") == 1, "what killed it is put aside")
    assert app.send_task("bench.add", (2, 3)).get(timeout=30) == 5
    assert worker.is_running()
