"""Events: what `celery events`, Flower and exporters hear of our workers."""

from collections.abc import Iterator

import pytest
from celery import Celery

from hearing import Heard, listening
from messages import unacked
from steering import ask, ours
from waiting import until


@pytest.fixture
def heard(app: Celery) -> Iterator[Heard]:
    with listening(app) as heard:
        yield heard


def test_a_worker_says_that_it_lives_from_its_start_to_its_end(app, programs, heard):
    worker = programs.interop_worker("-c", "1", "-n", "ours@here")
    until(lambda: heard.last("worker-heartbeat"), "it beats")
    app.send_task("bench.noop").get(timeout=30)
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
    # Each is told of when it is settled, which its caller may learn a moment earlier.
    ends = {good: 3, bad: 3, again: 6, unknown: 1, late: 1, later: 3}
    until(
        lambda: all(len(heard.types(result.id)) >= count for result, count in ends.items()),
        "the end of each is told of",
    )

    assert heard.types(good.id) == ["task-received", "task-started", "task-succeeded"]
    received, _, succeeded = heard.of(good.id)
    assert received["name"] == "bench.add"
    assert (received["args"], received["kwargs"]) == ("(2,)", "{'y': 3}")
    assert (received["root_id"], received["parent_id"]) == (good.id, None)
    assert succeeded["result"] == "5"
    assert 0 < succeeded["runtime"] < 10

    assert heard.types(bad.id) == ["task-received", "task-started", "task-failed"]
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
    ours(programs)

    def switch(to: str) -> str:
        return ask(app, f"{to}_events")["ok"]

    def done(count: int) -> None:
        """So many have ended, and what is told of them is told."""

        def idle() -> bool:
            figures = heard.last("worker-heartbeat") or {}
            return (figures.get("active"), figures.get("processed")) == (0, count)

        until(idle, f"it has done {count}")

    app.send_task("bench.noop").get(timeout=30)
    done(1)
    assert switch("enable") == "task events enabled"
    assert switch("enable") == "task events already enabled"
    told = app.send_task("bench.noop")
    told.get(timeout=30)
    until(lambda: len(heard.types(told.id)) == 3, "it is told of")
    assert switch("disable") == "task events disabled"
    assert switch("disable") == "task events already disabled"
    app.send_task("bench.noop").get(timeout=30)
    done(3)

    assert {event["uuid"] for event in heard.events if "uuid" in event} == {told.id}


def test_task_events_of_the_option_stay_on(app, programs, heard):
    ours(programs, "-c", "1", "-E")

    assert ask(app, "disable_events") == {"ok": "task events already disabled"}
    told = app.send_task("bench.noop")
    told.get(timeout=30)
    until(lambda: len(heard.types(told.id)) == 3, "it is told of")


def test_a_refused_message_is_told_of(app, programs, heard):
    programs.interop_worker("-c", "1", "-E")
    rejected = app.send_task("bench.refuse", ("reject",))
    again = app.send_task("bench.refuse", ("requeue",))
    assert again.get(timeout=30) == "second"
    until(lambda: "task-succeeded" in heard.types(again.id), "the last is told of")
    until(lambda: "task-rejected" in heard.types(rejected.id), "and the other")

    life = ["task-received", "task-started"]
    assert heard.types(rejected.id) == [*life, "task-failed", "task-rejected"]
    assert heard.of(rejected.id)[-1]["requeue"] is False
    assert heard.types(again.id) == [*life, "task-rejected", *life, "task-succeeded"]
    assert heard.of(again.id)[2]["requeue"] is True


def test_a_terminated_task_is_told_of(app, programs, redis, heard):
    ours(programs, "-c", "1", "-E")
    running = app.send_task("bench.sleep", (60,))
    until(lambda: "task-started" in heard.types(running.id), "it runs")

    ask(app, "revoke", task_id=running.id, terminate=True, signal="SIGKILL")

    until(lambda: "task-revoked" in heard.types(running.id), "it is told of")
    event = heard.of(running.id)[-1]
    assert (event["terminated"], event["signum"], event["expired"]) == (True, 9, False)
    until(lambda: unacked(redis) == 0, "its message is settled")


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
