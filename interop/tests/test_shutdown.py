"""However a worker is told to end, all that it had is settled or back, and at once."""

import json
import signal
import time
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest

from chaos.events import begun, ended
from messages import unacked, waiting
from waiting import until

SIGNALS = pytest.mark.parametrize(
    "signals",
    [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGINT, signal.SIGQUIT]],
    ids=["QUIT", "TERM-TERM", "INT-QUIT"],
)


def scheduled(redis):
    return redis.zcard("_celery_redis.scheduled")


def tell(worker, signals):
    """Sends the signals, each one when the one before was heard."""
    for number, sig in enumerate(signals, start=1):
        worker.send(sig)
        heard = partial(lambda count: worker.output().count(" shutdown: ") >= count, number)
        until(heard, "it heard the signal")


def held_by_nobody(redis):
    return unacked(redis) == 0 and redis.zcard("unacked_index") == 0 and not leases(redis)


def leases(redis):
    return redis.keys("_celery_redis.held.*") + redis.keys("_celery_redis.alive.*")


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]],
    ids=["TERM", "TERM-TERM"],
)
def test_everything_is_accounted_for_after_an_end_under_load(app, programs, redis, signals):
    worker = programs.interop_worker("-c", "8")
    # Runs until all signals were heard: without it a warm end may be over before the next one.
    held = app.send_task("bench.hold", ("release",))
    due = datetime.now(timezone.utc) + timedelta(seconds=12)
    later = [app.send_task("bench.record", (f"later-{n}", 0, 0), eta=due) for n in range(50)]
    now = [app.send_task("bench.record", (f"now-{n}", 0.2, 0)) for n in range(300)]
    until(lambda: len(ended(redis)) > 20 and scheduled(redis) == 50, "it is in the middle")

    tell(worker, signals)
    redis.set("release", 1)

    assert worker.wait() == 0
    assert datetime.now(timezone.utc) < due, "this machine is too slow for the test"
    settled = len(redis.keys("celery-task-meta-*"))
    assert 20 <= settled < len(now)
    assert settled + waiting(redis) == len([held, *now])
    assert scheduled(redis) == len(later)
    assert held_by_nobody(redis)

    at = time.monotonic()
    programs.interop_worker("-c", "8")
    for result in [held, *now, *later]:
        result.get(timeout=30)
    assert time.monotonic() - at < 20
    keys = [event.key for event in ended(redis)]
    assert len(set(keys)) == len(now) + len(later)
    # Late acknowledgement: a run that had ended and was not settled yet is repeated.
    repeated = len(keys) - len(set(keys))
    assert repeated <= (8 if len(signals) > 1 else 0)


@SIGNALS
def test_a_cold_end_puts_running_messages_back_at_once(app, programs, redis, signals):
    worker = programs.interop_worker("-c", "20")
    ids = [app.send_task("bench.record", (str(n), 300, 0)).id for n in range(20)]
    until(lambda: len(begun(redis)) == 20, "all run")

    tell(worker, signals[:-1])
    at = time.monotonic()
    worker.send(signals[-1])
    until(lambda: waiting(redis) == 20, "all are back")

    assert time.monotonic() - at < 1
    assert worker.wait() == 0
    assert held_by_nobody(redis)
    back = [json.loads(message) for message in reversed(redis.lrange("celery", 0, -1))]
    assert [message["headers"]["id"] for message in back] == ids
    # Given back in good order: that is no death.
    assert all(message["headers"]["redelivered"] is True for message in back)
    assert not any("x-delivery-count" in message["headers"] for message in back)


def test_a_cold_end_does_not_wait_for_a_blocked_thread(app, programs, redis):
    worker = programs.interop_worker("-c", "1")
    app.send_task("bench.block", (300,))
    until(lambda: "received" in worker.output(), "it runs")

    worker.send(signal.SIGQUIT)

    assert worker.wait() == 0
    assert waiting(redis) == 1
    assert held_by_nobody(redis)


def test_the_time_for_running_tasks_is_a_setting(app, programs, redis):
    worker = programs.interop_worker("-c", "2", WORKER_SHUTDOWN_SECONDS="2")
    app.send_task("bench.record", ("long", 300, 0))
    short = app.send_task("bench.record", ("short", 1, 0))
    until(lambda: len(begun(redis)) == 2, "both run")

    worker.send(signal.SIGTERM)
    at = time.monotonic()

    assert worker.wait(10) == 0
    assert 1.9 < time.monotonic() - at < 4
    assert short.get(timeout=30) is None
    assert waiting(redis) == 1
    assert held_by_nobody(redis)


def test_an_ending_worker_fetches_nothing_more_and_others_go_on(app, programs, redis):
    ending = programs.interop_worker("-c", "1")
    last = app.send_task("bench.hold", ("release",))
    until(lambda: unacked(redis) == 1, "it runs")
    tell(ending, [signal.SIGTERM])
    queued = [app.send_task("bench.record", (str(n), 0, 0)) for n in range(10)]
    assert waiting(redis) == 10

    other = programs.interop_worker("-c", "1")

    for result in queued:
        result.get(timeout=30)
    assert not last.ready()
    redis.set("release", 1)
    assert ending.wait() == 0
    assert last.get(timeout=30) == "release"
    assert {event.pid for event in ended(redis)} == {other.pid}


def test_a_second_worker_takes_over_what_a_cold_end_gives_back(app, programs, redis):
    """Default lease and visibility timeout: neither is waited for."""
    ending = programs.interop_worker("-c", "10")
    # For longer than the other needs to start.
    results = [app.send_task("bench.record", (str(n), 5, 0)) for n in range(10)]
    until(lambda: len(begun(redis)) == 10, "all run")
    programs.interop_worker("-c", "10")
    until(lambda: redis.hlen("_celery_redis.processes") == 2, "both are known")

    at = time.monotonic()
    ending.send(signal.SIGQUIT)

    until(lambda: len(begun(redis)) == 20, "the other has begun all")
    assert time.monotonic() - at < 5
    for result in results:
        result.get(timeout=30)
    assert len(begun(redis)) == 20
    assert len(ended(redis)) == 10
