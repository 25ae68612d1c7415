"""A worker whose Redis user may do what docs/security.md lists, and nothing else."""

import re
from pathlib import Path

import pytest
from celery.exceptions import TaskRevokedError

from conftest import programs_on
from waiting import until

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
USER = "least-privileged-worker"
KEYS = [
    *("celery*", "unacked", "unacked_index", "_kombu.binding*", "_celery_redis.*"),
    "*.reply.celery.pidbox",
]
CHANNELS = ["*.celery.pidbox", "*.celeryev/*", "celery-task-meta-*"]


def documented_commands() -> list[str]:
    block = re.search(r"exactly this list\).*?```\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    assert block, "docs/security.md lists the commands"
    return block[1].split()


@pytest.fixture
def restricted(redis, request, redis_server, redis_database):
    redis.acl_setuser(
        USER,
        enabled=True,
        passwords=["+secret"],
        keys=KEYS,
        channels=CHANNELS,
        commands=["-@all"] + [f"+{command}" for command in documented_commands()],
    )
    redis.acl_log_reset()
    url = f"redis://{USER}:secret@127.0.0.1:{redis_server.port}/{redis_database}"
    yield from programs_on(request, url)
    redis.acl_deluser(USER)


def test_the_documented_commands_are_enough(app, restricted, redis):
    worker = restricted.interop_worker("-c", "2", WORKER_LEASE_SECONDS="2")
    assert app.send_task("bench.add", (1, 2)).get(timeout=30) == 3
    assert app.send_task("bench.add", (1, 2), countdown=1).get(timeout=30) == 3
    assert app.send_task("bench.retry", (1, 0.1)).get(timeout=30) == 1
    assert app.send_task("bench.progress", (2, 0.1)).get(timeout=30) == 2
    assert len(app.control.broadcast("ping", reply=True, timeout=30, limit=1)) == 1
    revoked = app.send_task("bench.noop", countdown=1)
    app.control.revoke(revoked.id, reply=True, timeout=30, limit=1)
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=30)
    for _ in range(2):
        assert app.send_task("bench.echo", ("x" * 100_000,)).get(timeout=30) == "x" * 100_000
    redis.lpush("celery", "not json")
    until(lambda: redis.zcard("_celery_redis.dead") == 1, "a dead letter")
    running = app.send_task("bench.sleep", (60,))
    until(lambda: redis.hlen("unacked") == 1, "a task runs")
    worker.kill()
    restricted.interop_worker("-c", "2", WORKER_LEASE_SECONDS="2")
    until(lambda: len(redis.hkeys("_celery_redis.processes")) == 1, "the dead one is reaped")
    until(lambda: redis.hlen("unacked") == 1, "the task runs again")
    app.control.revoke(running.id)

    refused = [entry for entry in redis.acl_log() if entry["username"] == USER]

    # The client library introduces itself; that it may not changes nothing.
    assert [entry["object"] for entry in refused if not entry["object"].startswith("client")] == []
