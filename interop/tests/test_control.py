"""Remote control by Celery's own client: ping and revoke."""

import pytest
from celery.exceptions import TaskRevokedError

from messages import unacked
from waiting import until

SCHEDULED = "_celery_redis.scheduled"


def test_a_ping_is_answered_with_pong(app, programs):
    programs.interop_worker("-c", "1", "-n", "ours@here")

    assert app.control.ping(timeout=2) == [{"ours@here": {"ok": "pong"}}]


def test_a_ping_to_another_node_is_not_ours(app, programs):
    programs.interop_worker("-c", "1", "-n", "ours@here")

    assert app.control.ping(destination=["theirs@here"], timeout=1) == []


def test_a_busy_worker_answers(app, programs, redis):
    programs.interop_worker("-c", "1")
    app.send_task("bench.block", (5,))
    until(lambda: unacked(redis) == 1, "the only slot is taken")

    assert len(app.control.ping(timeout=2)) == 1


def test_a_revoked_message_in_the_queue_is_not_run(app, programs, redis):
    programs.interop_worker("-c", "1")
    app.send_task("bench.sleep", (2,))
    until(lambda: unacked(redis) == 1, "the only slot is taken")
    revoked = app.send_task("bench.incr", ("runs",))

    reply = app.control.revoke(revoked.id, reply=True, timeout=2)

    assert "flagged as revoked" in next(iter(reply[0].values()))["ok"]
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=10)
    assert redis.get("runs") is None
    assert unacked(redis) == 0


def test_a_revoked_message_that_waits_for_its_eta_is_not_run(app, programs, redis):
    programs.interop_worker("-c", "1")
    revoked = app.send_task("bench.incr", ("runs",), countdown=3)
    until(lambda: redis.zcard(SCHEDULED) == 1, "it waits in Redis")

    app.control.revoke(revoked.id, reply=True, timeout=2)

    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=10)
    assert redis.get("runs") is None
    assert redis.zcard(SCHEDULED) == 0


def test_a_worker_that_was_down_honours_a_revoke(app, programs, redis):
    first = programs.interop_worker("-c", "1")
    revoked = app.send_task("bench.incr", ("runs",), countdown=3)
    until(lambda: redis.zcard(SCHEDULED) == 1, "it waits in Redis")
    app.control.revoke(revoked.id, reply=True, timeout=2)
    first.kill()

    programs.interop_worker("-c", "1")

    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=30)
    assert redis.get("runs") is None


def test_what_is_no_request_disturbs_nobody(app, programs, redis, redis_database):
    programs.interop_worker("-c", "1")
    channel = f"/{redis_database}.celery.pidbox"
    until(lambda: redis.publish(channel, ""), "the worker listens")
    for message in ["not json", "[]", "{}", '{"body": "%%%"}', '{"body": "W10=", "headers": 5}']:
        assert redis.publish(channel, message) >= 1

    assert len(app.control.ping(timeout=2)) == 1


def test_an_unknown_command_is_refused(app, programs):
    programs.interop_worker("-c", "1", "-n", "ours@here")

    reply = app.control.broadcast("fly", reply=True, timeout=2)

    assert "does not know the command" in reply[0]["ours@here"]["error"]
