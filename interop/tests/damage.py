"""Messages that no worker should have to see, and what has to become of each.

All ask for `bench.incr(key)` with a key of their own, so that a test can tell whether a message was
executed after all.
"""

import base64
import json
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from messages import EMBED, encode, envelope

GOLDEN = Path(__file__).parent / "golden" / "malformed-messages.json"
TASK = "bench.incr"


@dataclass(frozen=True)
class Case:
    """A message as it is pushed, and the id under which somebody may wait for its result."""

    name: str
    pushed: Any
    task_id: str | None
    key: str


def cases() -> list[Case]:
    return _captured() + _made()


def _captured() -> list[Case]:
    """What was sent to Python's worker, for a task that ours knows."""
    found = []
    for entry in json.loads(GOLDEN.read_text()):
        key = f"ran:{entry['case']}"
        pushed = entry["pushed"]
        task_id = None
        if isinstance(pushed, dict):
            headers = pushed.get("headers")
            if isinstance(headers, dict) and "task" in headers:
                headers["task"] = TASK
            pushed["body"], task_id = _captured_body(pushed["body"], key)
            if isinstance(headers, dict) and "id" in headers:
                task_id = headers["id"]
        found.append(Case(f"captured {entry['case']}", pushed, task_id, key))
    return found


def _captured_body(text: str, key: str) -> tuple[str, str | None]:
    """The body with our task's argument, where it is a body; the id of a protocol 1 body."""
    plain = text.startswith("[")
    try:
        body = json.loads(text if plain else base64.b64decode(text))
    except ValueError:
        return text, None
    if isinstance(body, dict):
        body |= {"task": TASK, "args": [key]}
        return encode(body), body["id"]
    if len(body) == 3 and body[1] == {}:
        body[0] = [key]
    return (json.dumps(body) if plain else encode(body)), None


def _made() -> list[Case]:
    found = []

    def add(name: str, damage: Callable[[dict[str, Any], str], Any], *, answered: bool) -> None:
        key = f"ran:{len(found)} {name}"
        task_id = str(uuid.uuid4())
        message = envelope(TASK, key, task_id=task_id)
        changed = damage(message, key)
        pushed = message if changed is None else changed
        found.append(Case(name, pushed, task_id if answered else None, key))

    def body(name: str, value: Any) -> None:
        add(f"body {name}", lambda message, key: message.update(body=value), answered=True)

    def parts(name: str, make: Callable[[str], Any]) -> None:
        add(
            f"body {name}",
            lambda message, key: message.update(body=encode(make(key))),
            answered=True,
        )

    def header(name: str, value: Any, *, answered: bool = True, what: str = "") -> None:
        def damage(message: dict[str, Any], key: str) -> None:
            message["headers"][name] = value

        add(f"header {name} {what or value!r}", damage, answered=answered)

    def without_header(name: str, *, answered: bool = True) -> None:
        add(f"no header {name}", lambda m, key: m["headers"].pop(name) and None, answered=answered)

    def prop(name: str, value: Any) -> None:
        def damage(message: dict[str, Any], key: str) -> None:
            message["properties"][name] = value

        add(f"property {name} {value!r}", damage, answered=True)

    def field(name: str, value: Any, *, answered: bool = True, what: str = "") -> None:
        add(
            f"field {name} {what or value!r}",
            lambda message, key: message.update({name: value}),
            answered=answered,
        )

    def without_field(name: str, *, answered: bool) -> None:
        add(f"no field {name}", lambda m, key: m.pop(name) and None, answered=answered)

    def raw(name: str, value: Any) -> None:
        add(f"raw {name}", lambda message, key: value, answered=False)

    for value in [None, 7, [1], {"a": 1}, "", "***", "e30", "////"]:
        body(repr(value), value)
    body("invalid UTF-8", encode(b'[["\xff\xfe"], {}, {}]'))
    body("cut off", encode(b'[["x"], {}, {"callbac'))
    body("deeply nested", encode(b"[" * 100_000))
    body("NaN", encode(b"[[NaN], {}, {}]"))
    body("number out of range", encode(b"[[1e999], {}, {}]"))
    body("lone surrogate", encode(b'[["\\ud800"], {}, {}]'))
    body("with a byte order mark", encode(b'\xef\xbb\xbf[["x"], {}, {}]'))
    body("a scalar", encode(5))
    body("null", encode(None))
    body("a string", encode("body"))
    body("an empty array", encode([]))
    body("an object", encode({"args": []}))
    parts("of two parts", lambda key: [[key], {}])
    parts("of four parts", lambda key: [[key], {}, EMBED, None])
    parts("args an object", lambda key: [{"key": key}, {}, EMBED])
    parts("args null", lambda key: [None, {"key": key}, EMBED])
    parts("args a string", lambda key: [key, {}, EMBED])
    parts("kwargs null", lambda key: [[key], None, EMBED])
    parts("kwargs a string", lambda key: [[key], "key", EMBED])
    parts("embed null", lambda key: [[key], {}, None])
    parts("embed a list", lambda key: [[key], {}, []])
    parts("embed a string", lambda key: [[key], {}, "embed"])
    parts("callbacks a string", lambda key: [[key], {}, EMBED | {"callbacks": "next"}])
    parts("callbacks of numbers", lambda key: [[key], {}, EMBED | {"callbacks": [1, 2]}])
    parts("errbacks an object", lambda key: [[key], {}, EMBED | {"errbacks": {"task": "x"}}])
    parts("chain of nulls", lambda key: [[key], {}, EMBED | {"chain": [None]}])
    parts("chain an object", lambda key: [[key], {}, EMBED | {"chain": {}}])
    parts("chord a list", lambda key: [[key], {}, EMBED | {"chord": []}])
    parts("argument of another type", lambda key: [[{"not": "a string"}], {}, EMBED])
    parts("a megabyte of argument too many", lambda key: [[key, "x" * 1_000_000], {}, EMBED])
    parts("unknown __type__", lambda key: [[{"__type__": "moon", "__value__": 1}], {}, EMBED])

    for value in [None, 5, "", [], {"a": 1}, True]:
        header("id", value, answered=False)
    without_header("id", answered=False)
    for value in [None, 5, "", [], "no.such.task", "a\nb", "\x00", "celery.chord", "x" * 5000]:
        header("task", value, what=repr(value)[:20])
    without_header("task")
    without_header("lang")
    for value in ["three", -1, 10**30, 1.5, []]:
        header("retries", value)
    for value in [5, [], "tomorrow", "2020-13-45T00:00:00", "", {}]:
        header("eta", value)
    for value in [[], "yesterday", {}, True]:
        header("expires", value)
    header("expires", "2020-01-01T00:00:00+00:00")
    for value in ["10", [1], ["a", "b"], [-1, -1], [10**30, None], {}]:
        header("timelimit", value)
    for name in ["stamps", "stamped_headers", "group", "root_id", "parent_id", "argsrepr"]:
        header(name, 5)
        header(name, ["x"])
    header("group_index", "first")
    header("replaced_task_nesting", "deep")
    header("compression", "application/x-nothing")
    header("compression", "application/x-gzip")
    header("compression", 5)
    header("shadow", 5)

    def bomb(message: dict[str, Any], key: str) -> None:
        message["headers"]["compression"] = "application/x-gzip"
        message["body"] = encode(zlib.compress(b"[" + b" " * 200_000_000, 9))

    add("compressed 200 MB", bomb, answered=True)

    for value in [None, [], "properties", 5]:
        field("properties", value)
    for value in [
        None,
        [],
        "celery",
        {},
        {"routing_key": 5},
        {"exchange": "x", "routing_key": "y"},
    ]:
        prop("delivery_info", value)
    for value in ["high", -1, 300, None, 1.5, []]:
        prop("priority", value)
    for value in [None, 5, "", "the same", "the same"]:
        prop("delivery_tag", value)
    for value in ["rot13", None, 5]:
        prop("body_encoding", value)
    prop("correlation_id", 5)
    prop("reply_to", 5)
    prop("delivery_mode", "durable")
    prop("expiration", "soon")

    for value in [None, [], "headers", 5, {}]:
        field("headers", value, answered=False)
    without_field("headers", answered=False)
    without_field("properties", answered=True)
    without_field("body", answered=True)
    without_field("content-type", answered=True)
    without_field("content-encoding", answered=True)
    for value in [None, 5, "text/plain", "application/x-python-serialize", "application/x-yaml"]:
        field("content-type", value)
    for value in [None, 5, "utf-16", "no-such-encoding"]:
        field("content-encoding", value)

    raw("nothing", "")
    raw("blanks", "   ")
    raw("null", "null")
    raw("a number", "5")
    raw("a string", '"message"')
    raw("an empty object", "{}")
    raw("an empty array", "[]")
    raw("invalid UTF-8", b'{"body": "\xff\xfe"}')
    raw("a NUL byte", b"\x00")
    raw("deeply nested", "[" * 100_000)
    raw("deeply nested objects", '{"a":' * 100_000)
    raw("cut off", json.dumps(envelope(TASK, "ran:cut off"))[:200])
    raw("with something behind it", json.dumps({"headers": {}}) + "}")
    raw("ten megabytes of garbage", b"\xde\xad" * 5_000_000)

    def protocol_1(name: str, change: dict[str, Any], *, answered: bool = True) -> None:
        def damage(message: dict[str, Any], key: str) -> None:
            mapping = {"task": TASK, "id": message["headers"]["id"], "args": [key], "kwargs": {}}
            message["headers"] = {}
            message["body"] = encode(mapping | change)

        add(f"protocol 1 {name}", damage, answered=answered)

    protocol_1("id null", {"id": None}, answered=False)
    protocol_1("task a number", {"task": 5})
    protocol_1("args a string", {"args": "args"})
    protocol_1("kwargs a list", {"kwargs": []})
    protocol_1("eta not a time", {"eta": "tomorrow"})
    protocol_1("retries a string", {"retries": "three"})
    return found
