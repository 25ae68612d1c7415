"""A worker answers, and keeps what it holds, however busy its tasks keep it."""

import statistics
import sys
import time

from messages import unacked
from steering import ask, ours
from waiting import until

PINGS = 100
# More threads than the tasks' own runtime has, so that none is left.
THREADS = {"TOKIO_WORKER_THREADS": "2"}


def test_a_worker_all_of_whose_threads_are_busy_answers(app, programs, redis):
    """Tasks that block threads of their own, and those that hold up the runtime's."""
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
    # Commands that ask Redis do not wait for the tasks' runtime either.
    waits = app.send_task("bench.add", (1, 2), countdown=600).id
    assert ask(app, "revoke", task_id=[waits]) == {"ok": f"tasks {{'{waits}'}} flagged as revoked"}
    assert ask(app, "scheduled") == []
    assert ask(app, "pool_grow", n=2) == {"ok": "pool will grow"}
    assert ask(app, "add_consumer", queue="extra") == {"ok": "add consumer extra"}
    assert ask(app, "hello", from_node="other@here", revoked=["x"])["revoked"] == [waits, "x"]

    # docs/monitoring.md quotes it (pytest -s shows it).
    middle, most = statistics.median(took), max(took)
    sys.stdout.write(f"{PINGS} pings: median {middle:.1f} ms, longest {most:.1f} ms\n")
    # All of it before the first of the tasks ended, and with each thread of the runtime
    # held up: by whichever two of the four that came first.
    assert unacked(redis) == 8
    total = ask(app, "stats")["total"]
    assert total.get("bench.hog", 0) + total.get("bench.burn", 0) == 2
    assert redis.keys("celery-task-meta-*") == [f"celery-task-meta-{waits}"]


def test_tasks_that_hold_up_every_thread_do_not_cost_the_lease(app, programs, redis):
    lease = {"WORKER_LEASE_SECONDS": "1"}
    results = [app.send_task("bench.hog", (6,)) for _ in range(4)]
    worker = ours(programs, "-c", "4", **THREADS, **lease)
    until(lambda: unacked(redis) == 4, "it holds all")
    other = programs.interop_worker("-c", "4", **lease)
    until(lambda: redis.hlen("_celery_redis.processes") == 2, "both are known")

    for result in results:
        assert result.get(timeout=60) == 6

    assert "bench.hog" not in other.output().partition("ready:")[2].partition("\n")[2]
    assert "async tasks block all threads of the runtime" in worker.output()
    assert "silent for longer than its lease" not in worker.output()
    assert ask(app, "stats")["total"] == {"bench.hog": 4}
    assert unacked(redis) == 0
