"""A worker answers, and keeps what it holds, however busy its tasks keep it."""

import statistics
import sys
import time

import pytest
from celery.exceptions import NotRegistered, TimeLimitExceeded

from messages import unacked
from steering import ask, keep_short, ours
from waiting import until

PINGS = 100
# Fewer than there are tasks that keep one, so that none is left.
THREADS = {"TOKIO_WORKER_THREADS": "2"}


def test_a_worker_all_of_whose_threads_are_busy_answers(app, programs, redis):
    """Tasks that block threads of their own, and those that keep the threads of all."""
    for task in ("bench.block", "bench.hog", "bench.burn", "bench.burn"):
        for _ in range(2):
            app.send_task(task, (120,))
    ours(programs, "-c", "8", **THREADS)
    until(lambda: unacked(redis) == 8, "all slots are taken")
    ask(app, "ping")

    took = []
    for _ in range(PINGS):
        begun = time.monotonic()
        assert ask(app, "ping") == {"ok": "pong"}
        took.append((time.monotonic() - begun) * 1000)
    # Commands that ask Redis do not wait for the tasks either.
    waits = app.send_task("bench.add", (1, 2), countdown=600).id
    assert ask(app, "revoke", task_id=[waits]) == {"ok": f"tasks {{'{waits}'}} flagged as revoked"}
    assert ask(app, "scheduled") == []
    assert ask(app, "pool_grow", n=2) == {"ok": "pool will grow"}
    assert ask(app, "add_consumer", queue="extra") == {"ok": "add consumer extra"}
    assert ask(app, "hello", from_node="other@here", revoked=["x"])["revoked"] == [waits, "x"]

    # docs/monitoring.md quotes it (pytest -s shows it).
    middle, most = statistics.median(took), max(took)
    sys.stdout.write(f"{PINGS} pings: median {middle:.1f} ms, longest {most:.1f} ms\n")
    # All of it before the first of the tasks ended.
    assert unacked(redis) == 8
    assert sum(ask(app, "stats")["total"].values()) == 8
    assert redis.keys("celery-task-meta-*") == [f"celery-task-meta-{waits}"]


def test_tasks_that_hold_up_every_thread_do_not_cost_the_lease(app, programs, redis):
    lease = {"WORKER_LEASE_SECONDS": "1"}
    results = [app.send_task("bench.hog", (6,)) for _ in range(4)]
    worker = ours(programs, "-c", "4", **THREADS, **lease)
    until(lambda: unacked(redis) == 4, "it holds all")
    other = programs.interop_worker("-c", "4", **lease)
    until(lambda: redis.hlen("_celery_redis.processes") == 2, "both are known")

    for result in results:
        assert result.get(timeout=60) == "tasks"

    assert "bench.hog" not in other.output().partition("ready:")[2].partition("\n")[2]
    assert "async tasks block all their threads" in worker.output()
    assert "silent for longer than its lease" not in worker.output()
    assert ask(app, "stats")["total"] == {"bench.hog": 4}
    assert unacked(redis) == 0


def test_tasks_that_hold_up_every_thread_hold_up_no_message(app, programs, redis):
    hogs = [app.send_task("bench.hog", (3600,)) for _ in range(2)]
    ours(programs, "-c", "4", **THREADS)
    until(lambda: unacked(redis) == 2, "both threads are kept")

    late = app.send_task("bench.add", (1, 2), expires=-1)
    until(lambda: late.state == "REVOKED", "what is too late is ended")
    with pytest.raises(TimeLimitExceeded):
        app.send_task("bench.add", (1, 2), time_limit=0.5).get(timeout=30)
    with pytest.raises(NotRegistered):
        app.send_task("no.such").get(timeout=30)
    assert [hog.state for hog in hogs] == ["PENDING"] * 2


def test_a_task_that_was_short_holds_up_the_others_once(app, programs):
    ours(programs, "-c", "4", **THREADS)
    keep_short(app)
    assert app.send_task("bench.hog", (3,)).get(timeout=30) == "line"

    assert app.send_task("bench.hog", (0,)).get(timeout=30) == "tasks"


@pytest.mark.parametrize("compression", [None, "bzip2"])
def test_a_message_that_takes_long_to_read_holds_up_no_other(app, programs, redis, compression):
    ours(programs, "-c", "2")
    app.send_task("bench.add", (1, 2)).get(timeout=30)
    long = app.send_task("bench.add", (list(range(1_500_000)), 1), compression=compression)
    until(lambda: unacked(redis) == 1, "it is being read")

    for number in range(5):
        assert app.send_task("bench.add", (number, 1)).get(timeout=30) == number + 1
    assert not long.ready()
    with pytest.raises(TypeError):
        long.get(timeout=60)
