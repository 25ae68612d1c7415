"""Celery's own workers beside ours: neither takes what the other has, the dead lose nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.events import begun, ended
from messages import unacked, waiting
from processes import Process
from waiting import until

COMMON = {"BROKER_VISIBILITY_TIMEOUT": "5"}


@pytest.fixture
def python_worker(programs, folder, request):
    """Starts real Celery workers that look for stale messages each second."""
    started = []

    def start(*arguments, **env):
        command = [sys.executable, "-m", "celery", "-A", "mixed_worker", "worker", "-l", "info"]
        name = f"python-{len(started)}"
        process = Process(
            [*command, "-n", f"{name}@interop", *arguments],
            folder / request.node.name / f"{name}.log",
            env=programs.env | {"PYTHONPATH": str(Path(__file__).parent)} | env,
        )
        started.append(process)
        until(lambda: "ready." in process.output(), "Celery's worker is ready")
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def ask_around(programs):
    """`celery inspect ping` over and over: each one drains, and restores what it finds stale."""
    command = [sys.executable, "-m", "celery", "-A", "mixed_worker", "inspect", "-t", "0.5", "ping"]
    env = programs.env | COMMON | {"PYTHONPATH": str(Path(__file__).parent)}

    def ask(is_over):
        while not is_over():
            # Its status says whether anybody has answered; where only ours run, nobody may.
            subprocess.run(command, env=env, capture_output=True, timeout=30, check=False)

    return ask


def test_neither_takes_live_work_of_the_other_at_default_settings(
    app, programs, redis, python_worker
):
    """Each task takes longer than our lease."""
    python_worker("-P", "prefork", "-c", "2")
    programs.interop_worker("-c", "2")
    programs.interop_worker("-c", "2")
    results = [app.send_task("bench.record", (str(n), 13, 0)) for n in range(6)]
    until(lambda: len(begun(redis)) == 6, "all run")

    for result in results:
        result.get(timeout=60)

    assert len(begun(redis)) == len(ended(redis)) == 6
    assert len({event.pid for event in ended(redis)}) == 4, "ours two, and Celery's two"
    until(lambda: unacked(redis) == 0, "everything is acknowledged")
    assert waiting(redis) == 0


def test_what_a_killed_python_worker_had_is_done_by_ours(
    app, programs, redis, python_worker, ask_around
):
    killed = python_worker("-P", "solo", **COMMON)
    results = [app.send_task("bench.record", (str(n), 2, 0)) for n in range(3)]
    until(lambda: len(begun(redis)) == 1, "Celery's worker has begun")
    killed.kill()
    ours = programs.interop_worker("-c", "4", **COMMON)

    # kombu's rule: whoever drains takes back what is older than the visibility timeout.
    ask_around(lambda: all(result.ready() for result in results))

    assert {event.pid for event in ended(redis)} == {ours.pid}
    assert len(ended(redis)) == 3
    until(lambda: unacked(redis) == 0, "everything is acknowledged")


def test_ours_restore_nothing_of_a_living_python_worker(app, programs, redis, python_worker):
    """Not even what is older than the visibility timeout: only kombu knows who is dead there."""
    python_worker("-P", "solo", **COMMON)
    result = app.send_task("bench.record", ("key", 12, 0))
    until(lambda: len(begun(redis)) == 1, "Celery's worker has begun")
    for _ in range(2):
        programs.interop_worker("-c", "1", WORKER_LEASE_SECONDS="1", **COMMON)

    until(result.ready, "it has ended", 30)

    assert len(begun(redis)) == 1
    until(lambda: unacked(redis) == 0, "it is acknowledged")


def test_a_long_run_of_ours_is_not_stale_to_whoever_drains(
    app, programs, redis, python_worker, ask_around
):
    programs.interop_worker("-c", "1", **COMMON)
    result = app.send_task("bench.record", ("key", 12, 0))
    until(lambda: len(begun(redis)) == 1, "ours has begun")
    python_worker("-P", "prefork", "-c", "2", **COMMON)
    # That these clients do restore: one entry that nobody refreshes.
    redis.hset("unacked", "stale", '[{"body": "", "headers": {}, "properties": {}}, "", "bait"]')
    redis.zadd("unacked_index", {"stale": 1})

    ask_around(result.ready)

    assert not redis.hexists("unacked", "stale"), "the clients looked for stale messages"
    assert result.get(timeout=1) is None
    assert len(begun(redis)) == len(ended(redis)) == 1
    assert waiting(redis) == 0
    until(lambda: unacked(redis) == 0, "it is acknowledged")


def test_a_large_message_of_a_killed_worker_of_ours_is_done_by_celerys(
    app, programs, redis, python_worker
):
    """Once it was held for a moment: until then only a worker of ours brings it back."""
    large = {"filling": "x" * 200_000}
    # The first one says that there are large ones; both wait, so that nothing comes in between.
    app.send_task("bench.noop", headers=large)
    task_id = app.send_task("bench.record", ("key", 300, 0), headers=large).id
    ours = programs.interop_worker("-c", "1", **COMMON)
    until(lambda: len(begun(redis)) == 1, "ours has begun")
    (tag,) = redis.hkeys("unacked")
    assert tag.endswith(".apart")
    until(lambda: redis.hstrlen("unacked", tag) > 200_000, "it is recorded in kombu's form")

    ours.kill()
    python_worker("-P", "prefork", "-c", "2", **COMMON)

    until(lambda: len(begun(redis)) == 2, "Celery's worker has begun", 60)
    assert begun(redis)[1].key == "key"
    assert redis.keys("_celery_redis.apart.*") == []
    app.control.revoke(task_id, terminate=True)
