"""Killed workers, ending workers and a Redis that goes away: no task is lost."""

import signal

import pytest

from conftest import celery_app
from messages import idle, unacked, waiting
from waiting import until


def test_a_killed_worker_s_task_is_done_by_another(app, programs, redis):
    killed = programs.interop_worker("-c", "1")
    result = app.send_task("bench.sleep", (3,))
    until(lambda: unacked(redis) == 1, "the worker holds the task")

    killed.kill()
    programs.interop_worker("-c", "1")

    result.get(timeout=90)
    until(lambda: unacked(redis) == 0, "the message is acknowledged")
    assert waiting(redis) == 0


def test_every_task_of_a_killed_worker_is_done(app, programs, redis):
    killed = programs.interop_worker("-c", "8")
    results = [app.send_task("bench.sleep", (0.2,)) for _ in range(60)]
    until(lambda: any(result.ready() for result in results), "the first task is done")

    killed.kill()
    programs.interop_worker("-c", "8")

    for result in results:
        result.get(timeout=90)


def test_a_living_worker_keeps_its_long_task(app, programs, redis):
    """Longer than a dead worker's messages need to come back."""
    programs.interop_worker("-c", "1")
    result = app.send_task("bench.sleep", (25,))
    until(lambda: unacked(redis) == 1, "the worker holds the task")
    programs.interop_worker("-c", "1")

    until(lambda: result.ready() or waiting(redis) > 0 or unacked(redis) != 1, "it ends", 60)

    assert result.get(timeout=30) == 25


def test_a_warm_shutdown_finishes_what_runs_and_leaves_the_rest_in_the_queue(app, programs, redis):
    worker = programs.interop_worker("-c", "1")
    running = app.send_task("bench.hold", ("release",))
    until(lambda: unacked(redis) == 1, "the task runs")
    for _ in range(5):
        app.send_task("bench.noop")

    worker.send(signal.SIGTERM)
    until(lambda: " shutdown: " in worker.output(), "it has heard")
    redis.set("release", 1)

    assert worker.wait() == 0
    assert running.get(timeout=30) == "release"
    assert waiting(redis) == 5
    assert unacked(redis) == 0


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM]])
def test_a_cold_shutdown_puts_the_running_task_back(app, programs, redis, signals):
    worker = programs.interop_worker("-c", "1")
    app.send_task("bench.sleep", (100,))
    until(lambda: unacked(redis) == 1, "the task runs")

    worker.send(signals[0])
    for number in signals[1:]:
        until(lambda: "hutdown" in worker.output() or "hutting" in worker.output(), "it heard")
        worker.send(number)

    worker.wait()
    assert waiting(redis) == 1
    assert unacked(redis) == 0


def call(server, name, *args):
    """What a caller gets that has just connected: an old one's subscription may be stale."""
    with celery_app(server.url()) as app:
        return app.send_task(name, args).get(timeout=60)


def test_a_worker_goes_on_after_redis_was_away(own_redis, on_own_redis):
    worker = on_own_redis.interop_worker()
    assert call(own_redis, "bench.add", 1, 2) == 3

    own_redis.stop()
    own_redis.start_again()

    assert call(own_redis, "bench.add", 3, 4) == 7
    assert worker.is_running()


def test_a_task_that_runs_while_redis_is_away_is_settled_afterwards(own_redis, on_own_redis):
    on_own_redis.interop_worker("-c", "1")
    with celery_app(own_redis.url()) as app:
        task_id = app.send_task("bench.sleep", (3,)).id
    client = own_redis.client()
    until(lambda: unacked(client) == 1, "the task runs")

    own_redis.stop()
    own_redis.start_again()

    client = own_redis.client()
    key = f"celery-task-meta-{task_id}"
    until(lambda: '"SUCCESS"' in (client.get(key) or ""), "the result is stored", 90)
    until(lambda: idle(client), "the message is settled")


def test_a_worker_started_before_redis_waits_for_it(own_redis, on_own_redis):
    own_redis.stop()
    worker = on_own_redis.interop_worker()
    until(lambda: "redis" in worker.output().lower(), "the worker says what it waits for")

    own_redis.start_again()

    assert call(own_redis, "bench.add", 1, 2) == 3
