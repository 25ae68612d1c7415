"""`task-sent`: what monitors hear of the messages that our programs send."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature

from hearing import Heard, listening
from messages import idle, waiting
from steering import ready
from waiting import until

TOLD = {"CELERY_TASK_SEND_SENT_EVENT": "true"}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What is of the moment or of the process.
OF_THE_MOMENT = ["hostname", "pid", "clock", "timestamp", "local_received"]


@pytest.fixture
def heard(app: Celery) -> Iterator[Heard]:
    with listening(app) as heard:
        yield heard


def sent(heard: Heard) -> list[dict[str, Any]]:
    return [event for event in list(heard.events) if event["type"] == "task-sent"]


def test_what_tasks_send_is_told_of_as_python_tells_it(app, programs, heard):
    """Celery's `task_send_sent_event`, with the client there and with ours here."""
    programs.interop_worker("-c", "1", CELERY_TASK_SEND_SENT_EVENT="true")
    app.conf.task_send_sent_event = True
    call = app.signature("bench.add", (2,), {"y": 3}, countdown=0.1)
    spawned = app.send_task("bench.spawn", (call | app.signature("bench.noop"),))
    child_id = spawned.get(timeout=30)[0][1][0][0]
    until(lambda: heard.of(child_id) and heard.of(spawned.id), "both are told of")

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


def add(*args: Any, **options: Any) -> Any:
    return signature("bench.add", args=args, **options)


def accumulate() -> Any:
    return signature("celery.accumulate", kwargs={"index": 0})


# Each with the number of messages that its workers send.
CANVASES = {
    "a chain": (lambda: chain(add(1, 2), add(3), add(4)), 2),
    "callbacks": (lambda: add(1, 1, link=[add(5), add(6)]), 2),
    "an errback": (
        lambda: signature("bench.fail", ("no",), link_error=[signature("bench.incr")]),
        1,
    ),
    "a group in a chain": (lambda: chain(add(1, 1), group(add(2), add(3))), 2),
    "a chord": (lambda: chord([add(1, 1), add(2, 2)], accumulate()), 1),
    "a replacement": (lambda: signature("bench.replace", (chain(add(1, 1), add(2)),)), 2),
}


def without_moment(event: dict[str, Any]) -> dict[str, Any]:
    """What remains the same whoever tells of it and when; fresh ids are the same to all."""
    kept = {key: value for key, value in event.items() if key not in OF_THE_MOMENT}
    return {
        key: UUID.sub("<id>", value) if isinstance(value, str) else value
        for key, value in kept.items()
    }


@pytest.mark.parametrize("name", CANVASES)
def test_what_follows_from_a_task_is_told_of_as_by_a_python_worker(
    app, programs, redis, heard, name
):
    canvas, count = CANVASES[name]
    told = {}
    for kind in ("ours", "python"):
        if kind == "ours":
            worker = ready(programs.interop_worker("-c", "2", "--without-heartbeat", **TOLD))
        else:
            options = ["-P", "solo", "--without-heartbeat"]
            worker = programs.python_worker(*options, module="canvas_worker", **TOLD)
        heard.events.clear()
        canvas().apply_async()
        until(lambda: len(sent(heard)) >= count, "all that is sent is told of")
        until(lambda: idle(redis), "nothing is left to do")
        events = sent(heard)
        assert all(event["hostname"].startswith("gen") for event in events)
        told[kind] = sorted(map(without_moment, events), key=repr)
        worker.kill()

    assert told["ours"] == told["python"]
    assert len(told["ours"]) == count


def test_a_retry_is_told_of(app, programs, heard):
    ready(programs.interop_worker("-c", "1", **TOLD))
    result = app.send_task("bench.retry", (1, 0.0, 3))
    assert result.get(timeout=30) == 1
    until(lambda: sent(heard), "it is told of")

    (event,) = sent(heard)
    assert (event["uuid"], event["retries"], event["name"]) == (result.id, 1, "bench.retry")


def test_nothing_is_told_of_where_nobody_wants_it(app, programs, heard):
    ready(programs.interop_worker("-c", "1", "-E"))
    result = chain(add(1, 2), add(3)).apply_async()
    assert result.get(timeout=30) == 6
    until(lambda: len(heard.types(result.id)) == 3, "the end of it is told of")

    assert sent(heard) == []


def test_what_beat_sends_is_told_of_as_python_tells_it(app, programs, redis, heard, tmp_path):
    file = tmp_path / "beat.toml"
    file.write_text(
        "built_in = false\n"
        '[entries.often]\ntask = "t.often"\nschedule = "every 100ms"\n'
        'args = [1, "x"]\nqueue = "reports"\nexpires = "1h"\n'
    )
    app.conf.task_send_sent_event = True
    app.send_task("t.often", (1, "x"), queue="reports", expires=3600)
    until(lambda: sent(heard), "the client's is told of")

    programs.beat("--file", str(file), **TOLD)
    until(lambda: len(sent(heard)) > 3, "beat's are told of")

    theirs, *mine = sent(heard)
    for event in mine:
        differs = {"expires": theirs["expires"]}
        assert without_moment(event) | differs == without_moment(theirs)
        assert event["expires"].endswith("+00:00")
    ids = {event["uuid"] for event in mine}
    assert len(ids) == len(mine)
    until(lambda: waiting(redis, "reports") > len(mine), "the messages are there")


def test_beat_tells_of_nothing_where_nobody_wants_it(programs, redis, heard, tmp_path):
    file = tmp_path / "beat.toml"
    file.write_text(
        'built_in = false\n[entries.often]\ntask = "t.often"\nschedule = "every 100ms"\n'
    )
    programs.beat("--file", str(file))
    until(lambda: waiting(redis) > 3, "it sends")

    assert sent(heard) == []
