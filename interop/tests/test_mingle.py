"""Among Python workers: what a worker that starts learns from the others, and they from ours."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from messages import idle
from steering import OURS, PYTHONS, ask, ask_node, ours, pythons, ready
from waiting import until

COMPLAINTS = ["Traceback", "ERROR", "CRITICAL", "Connection to broker lost"]
REPLIES = f"{OURS}.reply.celery.pidbox"


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if any(word in line for word in COMPLAINTS)]


# -- We ask


def test_ours_learns_at_its_start_what_a_python_worker_was_told(app, programs, redis):
    """The Python worker keeps it in its memory only, and serves another queue."""
    python = pythons(app, programs, "-c", "1", "-Q", "other")
    revoked = app.send_task("bench.incr", ("runs",))
    ask_node(app, PYTHONS, "revoke", task_id=[revoked.id, "second"])

    worker = ours(programs)

    # Known before the first message is fetched.
    until(lambda: idle(redis), "its message is settled")
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=30)
    assert redis.get("runs") is None
    assert set(ask(app, "revoked")) == {revoked.id, "second"}
    assert f"sync with {OURS}" in python.output()
    assert "mingle: sync with 1 nodes" in worker.output()
    # From now on it is durable.
    assert set(redis.zrange("_celery_redis.revoked", 0, -1)) == {revoked.id, "second"}
    assert complaints(python.output()) == []
    # Nothing of the question is left, before anything would expire.
    assert redis.keys("*pidbox*ours*") == redis.keys("*ours*pidbox*") == []


def test_its_clock_is_beyond_that_of_the_others(app, programs):
    pythons(app, programs)
    # Each command that it hears moves it.
    until(lambda: ask_node(app, PYTHONS, "clock")["clock"] > 100, "its clock has moved")

    worker = ours(programs)

    # Nobody had commanded ours before. What the asker's clock is plays no part: it is behind.
    assert "mingle: sync with 1 nodes" in worker.output()
    assert ask(app, "clock")["clock"] > 100


def test_a_worker_that_is_alone_waits_for_nobody(app, programs, redis):
    app.send_task("bench.incr", ("runs",))
    worker = ours(programs)
    until(lambda: redis.get("runs"), "it runs what waits")
    assert "mingle: all alone" in worker.output()


def test_two_that_start_together_answer_each_other(app, programs):
    both = [programs.interop_worker("-n", f"{name}@here", "-c", "1") for name in ("a", "b")]
    for worker in both:
        ready(worker)
    assert sum("mingle: sync with 1 nodes" in worker.output() for worker in both) >= 1


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--without-mingle"], {}),
        ([], {"CELERY_WORKER_ENABLE_REMOTE_CONTROL": "false"}),
        # What others were told changes nothing here.
        ([], {"WORKER_REMOTE_CONTROL_CHANGES": "false"}),
    ],
    ids=["option", "no remote control", "only looking"],
)
def test_it_asks_nobody_where_that_is_off(programs, redis, redis_database, arguments, env):
    heard = redis.pubsub()
    heard.subscribe(f"/{redis_database}.celery.pidbox")
    until(lambda: heard.get_message(timeout=1), "we listen")

    worker = ours(programs, "-c", "1", *arguments, **env)

    assert heard.get_message(timeout=0) is None
    assert "mingle" not in worker.output()


@contextmanager
def neighbour(redis, database: int, replies: list[Any]) -> Iterator[list[dict[str, Any]]]:
    """Somebody who hears the question and replies with envelopes, one body each, or as it is."""
    heard = redis.pubsub()
    heard.subscribe(f"/{database}.celery.pidbox")
    until(lambda: heard.get_message(timeout=1), "it listens")
    questions: list[dict[str, Any]] = []

    def reply() -> None:
        message = until(lambda: heard.get_message(timeout=1), "the question comes")
        question = json.loads(message["data"])
        body = json.loads(base64.b64decode(question["body"]))
        questions.append({"body": body, "headers": question["headers"]})
        exchange = body["reply_to"]["exchange"]
        (member,) = redis.smembers(f"_kombu.binding.{exchange}")
        routing_key, _, queue = member.split("\x06\x16")
        assert routing_key == body["reply_to"]["routing_key"]
        for answer in replies:
            if not isinstance(answer, str):
                answer = json.dumps(
                    {
                        "body": base64.b64encode(json.dumps(answer).encode()).decode(),
                        "headers": {"ticket": body["ticket"], "clock": 1},
                    }
                )
            redis.lpush(queue, answer)

    thread = threading.Thread(target=reply)
    thread.start()
    yield questions
    thread.join()
    heard.close()


@pytest.mark.parametrize(
    ("knows", "revoked"),
    [
        ({"clock": 70, "revoked": ["x1", "x2"]}, ["x1", "x2"]),
        # Up to Celery 5.6.
        ({"clock": 70, "revoked": {"x1": 1.5, "x2": [2.0, 0, "x2"]}}, ["x1", "x2"]),
    ],
    ids=["list", "mapping"],
)
def test_both_formats_of_the_reply_are_read(app, programs, redis, redis_database, knows, revoked):
    with neighbour(redis, redis_database, [{"python@there": knows}]) as questions:
        worker = ours(programs)

    assert ask(app, "revoked") == revoked
    assert ask(app, "clock")["clock"] > 70
    assert questions[0]["body"]["method"] == "hello"
    assert questions[0]["body"]["arguments"] == {"from_node": OURS, "revoked": []}
    assert "python@there told of 2 revoked tasks" in worker.output()


@pytest.mark.parametrize(
    "replies",
    [
        ["not json", "[]", "{}", ""],
        [None, [], "text", 7, {"x@there": None}, {"x@there": "hi"}, {"x@there": {"error": "no"}}],
        [{"x@there": {"clock": "x", "revoked": "abc"}}, {"x@there": {"revoked": [1, None, {}]}}],
        [],
    ],
    ids=["no replies", "no nodes", "no ids", "silence"],
)
def test_replies_that_make_no_sense_disturb_nothing(app, programs, redis, redis_database, replies):
    """Nor does silence: whoever listens and never replies is not waited for beyond a second."""
    with neighbour(redis, redis_database, replies):
        worker = ours(programs)

    assert ask(app, "revoked") == []
    assert app.send_task("bench.add", (1, 2)).get(timeout=30) == 3
    assert "panicked" not in worker.output()
    assert complaints(worker.output()) == []


def test_a_reply_that_comes_too_late_does_not_stay(app, programs, redis, redis_database):
    with neighbour(redis, redis_database, []):
        ours(programs)
    # As by somebody who had looked up the queue before it was closed.
    redis.lpush(REPLIES, "late")

    until(lambda: not redis.exists(REPLIES), "it is dropped")


def test_it_asks_again_when_it_had_lost_touch(app, programs, redis):
    ours(programs)
    pythons(app, programs, "-c", "1", "-Q", "other")
    ask_node(app, PYTHONS, "revoke", task_id=["meanwhile"])
    assert ask(app, "revoked") == []

    # Only ours: a Python worker listens by patterns, too.
    for client in redis.client_list():
        if client["sub"] == "1" and client["psub"] == "0":
            redis.client_kill_filter(_id=client["id"])

    def learnt() -> bool:
        # Nobody hears the question while the connection is being made anew.
        replies = app.control.broadcast("revoked", destination=[OURS], reply=True, limit=1)
        return replies == [{OURS: ["meanwhile"]}]

    until(learnt, "ours has learnt of it")


# -- They ask


@pytest.mark.parametrize("revoked", [["x1", "x2"], {"x1": 1.5, "x2": [2.0, 0, "x2"]}])
def test_a_hello_of_any_celery_is_answered(app, programs, revoked):
    ours(programs)

    reply = ask(app, "hello", from_node="other@here", revoked=revoked)

    assert reply["revoked"] == ["x1", "x2"]
    assert reply["clock"] > 0
    assert ask(app, "hello", from_node=OURS, revoked=[]) is None
    assert ask(app, "revoked") == ["x1", "x2"]


def test_what_is_known_is_not_remembered_for_longer_by_a_hello(app, programs, redis):
    ours(programs)
    ask(app, "revoke", task_id=["known"])
    redis.zadd("_celery_redis.revoked", {"known": time.time() + 60})

    ask(app, "hello", from_node="other@here", revoked=["known", "new"])

    assert redis.zscore("_celery_redis.revoked", "known") < time.time() + 61
    assert redis.zscore("_celery_redis.revoked", "new") > time.time() + 61


def test_a_python_worker_learns_from_ours_and_is_not_disturbed(app, programs):
    """Mingle, gossip, heartbeats, task events, commands, our coming and going."""
    worker = ours(programs, "-E")
    ask(app, "revoke", task_id=["told"])
    python = pythons(app, programs, "-c", "1", "-l", "debug")
    assert f"sync with {PYTHONS}" in worker.output()
    assert "mingle: sync with 1 nodes" in python.output()
    assert ask_node(app, PYTHONS, "revoked") == ["told"]

    for _ in range(20):
        app.send_task("bench.noop").get(timeout=30)
    app.send_task("bench.noop", expires=-1)
    for command in ("enable_events", "disable_events", "heartbeat", "pool_grow", "pool_shrink"):
        app.control.broadcast(command, reply=True, timeout=30, limit=2)
    until(lambda: f"{OURS} joined the party" in python.output(), "its gossip knows ours")
    worker.send(15)
    worker.wait()
    until(lambda: f"{OURS} left" in python.output(), "its gossip knows that ours has left")
    ours(programs)
    until(lambda: python.output().count(f"sync with {OURS}") == 1, "the next one has asked it")

    assert ask_node(app, PYTHONS, "ping") == {"ok": "pong"}
    assert complaints(python.output()) == []
    for log in (text for name, text in programs.logs() if name.startswith("interop")):
        assert complaints(log) == []
