"""Events: what `celery events`, Flower and exporters hear of our workers."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from hearing import Heard, listening
from messages import unacked
from waiting import until


@pytest.fixture
def heard(app: Celery) -> Iterator[Heard]:
    with listening(app) as heard:
        yield heard


def test_a_worker_says_that_it_lives_from_its_start_to_its_end(app, programs, heard):
    worker = programs.interop_worker("-c", "1", "-n", "ours@here")
    until(lambda: heard.last("worker-heartbeat"), "it beats")
    app.send_task("bench.noop").get(timeout=10)
    until(
        lambda: (heard.last("worker-heartbeat") or {}).get("processed") == 1, "it counts its task"
    )
    worker.send(15)
    worker.wait()

    until(lambda: heard.last("worker-offline"), "it says that it ends")

    online = heard.last("worker-online")
    assert online["hostname"] == "ours@here"
    assert (online["freq"], online["active"], online["processed"]) == (2.0, 0, 0)
    assert online["pid"] == worker.pid
    assert len(online["loadavg"]) == 3
    assert online["sw_ident"] == "celery-redis"
    # Nobody asked for more.
    assert not [event for event in heard.events if event["type"].startswith("task-")]
    clocks = [event["clock"] for event in heard.events]
    assert clocks == sorted(clocks)


def test_a_tasks_life_is_told_with_the_option(app, programs, heard):
    programs.interop_worker("-c", "1", "-E", "-n", "ours@here")
    good = app.send_task("bench.add", (2,), {"y": 3})
    bad = app.send_task("bench.fail", ("boom",))
    again = app.send_task("bench.retry", (1, 0.0, 3))
    unknown = app.send_task("bench.unknown")
    late = app.send_task("bench.noop", expires=-1)
    later = app.send_task("bench.noop", countdown=1)
    for result in (good, again, later):
        result.get(timeout=10)
    until(lambda: len(heard.types(later.id)) == 3, "the last is told of")

    assert heard.types(good.id) == ["task-received", "task-started", "task-succeeded"]
    received, _, succeeded = heard.of(good.id)
    assert received["name"] == "bench.add"
    assert (received["args"], received["kwargs"]) == ("(2,)", "{'y': 3}")
    assert (received["root_id"], received["parent_id"]) == (good.id, None)
    assert succeeded["result"] == "5"
    assert 0 < succeeded["runtime"] < 10

    assert heard.types(bad.id)[-1] == "task-failed"
    failed = heard.of(bad.id)[-1]
    assert failed["exception"] == "ValueError('boom')"
    assert failed["traceback"].startswith("Traceback (most recent call last):")

    life = ["task-received", "task-started"]
    assert heard.types(again.id) == [*life, "task-retried", *life, "task-succeeded"]
    assert heard.of(again.id)[2]["exception"] == "KeyError('again')"

    assert heard.types(unknown.id) == ["task-failed"]
    assert heard.of(unknown.id)[0]["exception"] == "NotRegistered('bench.unknown')"

    assert heard.types(late.id) == ["task-revoked"]
    assert heard.of(late.id)[0]["expired"] is True

    # Told when it arrived, not once more when it was due.
    assert heard.types(later.id) == [*life, "task-succeeded"]
    assert heard.of(later.id)[0]["eta"] is not None


def test_task_events_are_told_while_they_are_asked_for(app, programs, heard):
    programs.interop_worker("-c", "1", "-n", "ours@here")

    def switch(to: str) -> str:
        return app.control.broadcast(f"{to}_events", reply=True, timeout=2)[0]["ours@here"]["ok"]

    app.send_task("bench.noop").get(timeout=10)
    assert switch("enable") == "task events enabled"
    assert switch("enable") == "task events already enabled"
    told = app.send_task("bench.noop")
    told.get(timeout=10)
    until(lambda: len(heard.types(told.id)) == 3, "it is told of")
    assert switch("disable") == "task events disabled"
    assert switch("disable") == "task events already disabled"
    app.send_task("bench.noop").get(timeout=10)
    until(lambda: (heard.last("worker-heartbeat") or {}).get("processed") == 3, "it has done all")

    assert {event["uuid"] for event in heard.events if "uuid" in event} == {told.id}


def test_task_events_of_the_option_stay_on(app, programs, heard):
    worker = programs.interop_worker("-c", "1", "-E", "-n", "ours@here")
    until(lambda: " ready" in worker.output(), "it listens to commands")

    reply = app.control.broadcast("disable_events", reply=True, timeout=2)

    assert reply == [{"ours@here": {"ok": "task events already disabled"}}]
    told = app.send_task("bench.noop")
    told.get(timeout=10)
    until(lambda: len(heard.types(told.id)) == 3, "it is told of")


def test_a_refused_message_is_told_of(app, programs, heard):
    programs.interop_worker("-c", "1", "-E")
    rejected = app.send_task("bench.refuse", ("reject",))
    again = app.send_task("bench.refuse", ("requeue",))
    assert again.get(timeout=10) == "second"
    until(lambda: "task-succeeded" in heard.types(again.id), "the last is told of")

    life = ["task-received", "task-started"]
    assert heard.types(rejected.id) == [*life, "task-failed", "task-rejected"]
    assert heard.of(rejected.id)[-1]["requeue"] is False
    assert heard.types(again.id) == [*life, "task-rejected", *life, "task-succeeded"]
    assert heard.of(again.id)[2]["requeue"] is True


def test_a_terminated_task_is_told_of(app, programs, redis, heard):
    programs.interop_worker("-c", "1", "-E")
    running = app.send_task("bench.sleep", (60,))
    until(lambda: "task-started" in heard.types(running.id), "it runs")

    app.control.revoke(running.id, terminate=True, signal="SIGKILL", reply=True, timeout=2)

    until(lambda: "task-revoked" in heard.types(running.id), "it is told of")
    event = heard.of(running.id)[-1]
    assert (event["terminated"], event["signum"], event["expired"]) == (True, 9, False)
    until(lambda: unacked(redis) == 0, "its message is settled")


def test_what_tasks_send_is_told_of_as_python_tells_it(app, programs, heard):
    """Celery's `task_send_sent_event`, with the client there and with ours here."""
    programs.interop_worker("-c", "1", CELERY_TASK_SEND_SENT_EVENT="true")
    app.conf.task_send_sent_event = True
    call = app.signature("bench.add", (2,), {"y": 3}, countdown=0.1)
    spawned = app.send_task("bench.spawn", (call | app.signature("bench.noop"),))
    child_id = spawned.get(timeout=10)[0][1][0][0]
    until(lambda: heard.of(child_id), "the child is told of")

    def sent(task_id: str) -> dict[str, Any]:
        (event,) = [event for event in heard.of(task_id) if event["type"] == "task-sent"]
        return event

    mine, theirs = sent(child_id), sent(spawned.id)
    assert {key: type(value) for key, value in mine.items() if key not in ("eta", "parent_id")} == {
        key: type(value) for key, value in theirs.items() if key not in ("eta", "parent_id")
    }
    assert set(mine) == set(theirs)
    expected = {
        "name": "bench.add",
        "args": "(2,)",
        "kwargs": "{'y': 3}",
        "root_id": spawned.id,
        "parent_id": spawned.id,
        "queue": "celery",
        "exchange": "",
        "routing_key": "celery",
    }
    assert {key: mine[key] for key in expected} == expected
    assert mine["eta"].endswith("+00:00")


def test_a_worker_says_nothing_of_its_own_life_where_that_is_off(app, programs, heard):
    silent = programs.interop_worker("-c", "1", "-E", "--without-heartbeat", "-n", "silent@here")
    programs.interop_worker("-c", "1", "-n", "slow@here", "--heartbeat-interval", "1", "-Q", "x")
    until(lambda: len([e for e in heard.events if e["type"] == "worker-heartbeat"]) > 1, "it beats")
    told = app.send_task("bench.noop")
    until(lambda: len(heard.types(told.id)) == 3, "tasks are told of all the same")
    silent.send(15)
    silent.wait()

    lives = [event for event in heard.events if event["type"].startswith("worker-")]
    assert {(event["hostname"], event["freq"]) for event in lives} == {("slow@here", 1.0)}
