"""Whatever a body is serialised and compressed with, the task gets the caller's values."""

import datetime as dt
import os
import random
import re
import string
import uuid
import zlib
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import kombu.compression
import kombu.serialization
import pytest
from celery import chain, chord
from kombu.compression import encoders
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.utils import json as kombu_json

from conftest import PROGRAMS, celery_app
from messages import encode, envelope, push
from programs import Programs
from waiting import until

SERIALIZERS = ["json", "yaml", "msgpack", "pickle"]
UTC = dt.timezone.utc

# What every serialiser can hold.
PLAIN = [
    None,
    True,
    0,
    -1,
    2**31,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    0.1,
    -2.5e-300,
    1e16,
    "",
    "caf\u00e9 \U0001f600",
    "line\nand\ttab, 'quotes' and \"more\": # [x] {y}",
    "2020-01-02",
    "yes",
    "1_000",
    "~",
    "a long text " * 40,
    [],
    {},
    [[], [[]], {"a": {"b": [1, {"c": None}]}}],
    (1, (2, 3)),
    {"__type__": 1},
]
BYTES = [b"", b"abc", b"\xff\x00", bytes(range(256)) * 4]
MOMENTS = [
    dt.datetime(2020, 1, 2, 3, 4, 5),
    dt.datetime(2020, 1, 2, 3, 4, 5, 600, tzinfo=UTC),
    dt.datetime(2020, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    dt.datetime(1, 1, 1, tzinfo=dt.timezone(-dt.timedelta(hours=8))),
    dt.date(2020, 1, 2),
]
TYPED = [
    dt.datetime(2020, 1, 2, tzinfo=dt.timezone(dt.timedelta(minutes=53, seconds=28), "LMT")),
    dt.datetime(2020, 10, 25, 2, 30, fold=1),
    dt.time(3, 4, 5),
    dt.time(3, 4, 5, 6, tzinfo=UTC),
    Decimal("1.50"),
    Decimal("-1E+30"),
    Decimal("Infinity"),
    uuid.UUID(int=5),
    uuid.UUID(int=2**128 - 1),
]
BERLIN = ZoneInfo("Europe/Berlin")
CLOCKS_CHANGE = [
    dt.datetime(1850, 1, 1),
    dt.datetime(2026, 3, 29, 1, 59),
    dt.datetime(2026, 3, 29, 2, 30),
    dt.datetime(2026, 3, 29, 2, 30, fold=1),
    dt.datetime(2026, 3, 29, 3),
    dt.datetime(2026, 10, 25, 2, 30),
    dt.datetime(2026, 10, 25, 2, 30, fold=1),
    dt.datetime(2026, 10, 25, 3),
    dt.datetime(2036, 7, 1),
]
VALUES = (
    [(name, value) for name in SERIALIZERS for value in PLAIN + BYTES]
    + [(name, value) for name in ["json", "yaml", "pickle"] for value in MOMENTS]
    + [(name, value) for name in ["json", "pickle"] for value in TYPED]
    + [("pickle", [moment.replace(tzinfo=BERLIN) for moment in CLOCKS_CHANGE])]
    + [("pickle", dt.time(3, tzinfo=zone)) for zone in (BERLIN, ZoneInfo("UTC"))]
    + [(name, {7: "one", 2.5: "x", True: "y", None: "z"}) for name in ["yaml", "pickle"]]
)


def in_json(value):
    """What a caller of a Python worker would get back: the value as kombu's JSON gives it."""
    return kombu_json.loads(kombu_json.dumps(value))


@pytest.fixture(scope="module")
def database(redis_databases):
    return next(redis_databases)


@pytest.fixture(scope="module")
def started(folder, redis_server, database):
    """One worker for all: what one body breaks, the next one shows."""
    path = folder / "serializers"
    path.mkdir(exist_ok=True)
    programs = Programs(path, redis_server.url(database))
    process = programs.interop_worker("-c", "2", CELERY_ACCEPT_CONTENT="json,yaml,msgpack,pickle")
    yield process, programs
    programs.end()


@pytest.fixture
def worker(request, started):
    process, programs = started
    request.node.stash[PROGRAMS] = programs
    return process


@pytest.fixture(scope="module")
def caller(redis_server, database):
    with celery_app(redis_server.url(database)) as app:
        yield app


@pytest.mark.parametrize(("serializer", "value"), VALUES, ids=lambda value: repr(value)[:40])
def test_a_value_comes_back_as_from_a_python_worker(worker, caller, serializer, value):
    result = caller.send_task("bench.echo", (value,), serializer=serializer)

    returned = result.get(timeout=30)
    assert returned == in_json(value)
    assert type(returned) is type(in_json(value))


@pytest.mark.parametrize("value", BYTES + MOMENTS + TYPED, ids=lambda value: repr(value)[:40])
def test_a_task_takes_and_returns_a_typed_value(worker, caller, value):
    assert caller.send_task("bench.typed", (value,)).get(timeout=30) == in_json(value)


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_values_of_every_shape_come_back(worker, caller, serializer):
    chance = random.Random(7)  # noqa: S311, cases, not secrets
    values = [some_value(chance, serializer, depth=4) for _ in range(150)]

    results = [caller.send_task("bench.echo", (value,), serializer=serializer) for value in values]

    for value, result in zip(values, results, strict=True):
        assert result.get(timeout=60) == in_json(value), value


def some_value(chance, serializer, depth):
    """A random value that the serialiser can hold."""
    kinds = ["text"] * 4 + ["int", "float", "word", "bytes"] + ["list", "map"] * (2 if depth else 0)
    kinds += ["moment"] if serializer != "msgpack" else []
    kinds += ["typed"] if serializer in {"json", "pickle"} else []
    match chance.choice(kinds):
        case "text":
            letters = (
                string.printable.replace("\x0b", "").replace("\x0c", "") + "\u00e9\u4e2d\U0001f600"
            )
            return "".join(chance.choices(letters, k=chance.choice([1, 3, 12, 150])))
        case "int":
            return chance.randint(-(2 ** chance.randint(1, 63)), 2 ** chance.randint(1, 63))
        case "float":
            return chance.uniform(-1, 1) * 10 ** chance.randint(-30, 30)
        case "word":
            return chance.choice(
                [None, True, False, "null", "on", "1:30", "0x1f", "<<", "=", "1.5"]
            )
        case "bytes":
            return chance.randbytes(chance.randint(0, 90))
        case "moment":
            return chance.choice(MOMENTS)
        case "typed":
            return chance.choice(TYPED)
        case "list":
            return [some_value(chance, serializer, depth - 1) for _ in range(chance.randint(0, 4))]
        case "map":
            keys = [
                "".join(chance.choices(string.printable, k=chance.randint(1, 9))) for _ in range(3)
            ]
            return {key: some_value(chance, serializer, depth - 1) for key in keys}


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_read(worker, caller, monkeypatch, protocol):
    monkeypatch.setattr(kombu.serialization, "pickle_protocol", protocol)
    value = [PLAIN, BYTES, MOMENTS, TYPED, {1: "one"}]

    result = caller.send_task("bench.echo", (value,), serializer="pickle")

    assert result.get(timeout=30) == in_json(value)


@pytest.mark.parametrize("compression", sorted(encoders()))
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_compressed_body_is_read(worker, caller, serializer, compression):
    value = ["a long text " * 1000, os.urandom(3000)]

    result = caller.send_task(
        "bench.echo", (value,), serializer=serializer, compression=compression
    )

    assert result.get(timeout=30) == value


def test_python_has_every_compression_that_it_may_use():
    assert sorted(encoders()) == [
        "application/x-brotli",
        "application/x-bz2",
        "application/x-gzip",
        "application/x-lzma",
        "application/zstd",
    ]


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_call_of_protocol_1_is_read(worker, caller, serializer):
    caller.conf.task_protocol = 1
    try:
        result = caller.send_task(
            "bench.add", (4,), {"y": 5}, serializer=serializer, compression="zlib"
        )
        retried = caller.send_task("bench.retry", (2, 0.01), serializer=serializer)
    finally:
        caller.conf.task_protocol = 2

    assert result.get(timeout=30) == 9
    assert retried.get(timeout=30) == 2


@pytest.mark.parametrize("compression", [None, "bzip2"])
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_task_that_is_retried_keeps_its_arguments(worker, caller, serializer, compression):
    result = caller.send_task(
        "bench.retry", (2, 0.01), serializer=serializer, compression=compression
    )

    assert result.get(timeout=30) == 2


# PyYAML cannot write a signature.
@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle"])
def test_a_canvas_goes_on_whatever_it_was_sent_as(worker, caller, serializer):
    add = caller.signature("bench.add", serializer=serializer, compression="zlib")
    header = [add.clone((n, n)) for n in range(3)]
    total = caller.signature("bench.echo", serializer=serializer)

    chained = chain(add.clone((1, 2)), add.clone((3,)), add.clone((4,)))
    joined = chord(header, total, app=caller)

    assert chained.apply_async(serializer=serializer).get(timeout=30) == 10
    assert joined.apply_async(serializer=serializer).get(timeout=30) == [0, 2, 4]


@pytest.mark.parametrize("serializer", ["yaml", "msgpack", "pickle"])
def test_content_that_is_not_accepted_is_the_callers_error(app, programs, serializer):
    programs.interop_worker()
    result = app.send_task("bench.add", (1, 2), serializer=serializer)

    with pytest.raises(ContentDisallowed, match="not accepted here, only application/json"):
        result.get(timeout=30)
    assert app.send_task("bench.add", (1, 2)).get(timeout=30) == 3


def test_json_is_refused_where_it_is_not_accepted(app, programs):
    programs.interop_worker(CELERY_ACCEPT_CONTENT="application/x-msgpack")

    with pytest.raises(ContentDisallowed, match="only application/x-msgpack"):
        app.send_task("bench.add", (1, 2)).get(timeout=30)
    assert app.send_task("bench.add", (1, 2), serializer="msgpack").get(timeout=30) == 3


def test_a_serializer_that_nobody_knows_stops_the_worker_at_its_start(programs):
    worker = programs.interop_worker(CELERY_ACCEPT_CONTENT="json,xml")

    until(lambda: not worker.is_running(), "it ended")
    assert "CELERY_ACCEPT_CONTENT" in worker.output()
    assert "some of json, yaml, msgpack, pickle" in worker.output()


class Calls:
    """Has a reader of its pickle call `function`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda path: Calls(os.system, f"touch {path}"), "posix.system"),
        (lambda path: Calls(open, str(path), "w"), "io.open"),
        (lambda path: Calls(eval, f"open({str(path)!r}, 'w')"), "builtins.eval"),
        (lambda path: Calls(os.mkdir, str(path)), "posix.mkdir"),
        (lambda path: Programs, "programs.Programs"),
        (lambda path: dt.timezone(dt.timedelta(0)).utcoffset, "builtins.getattr"),
    ],
)
def test_a_pickle_that_is_more_than_data_is_refused_and_nothing_of_it_is_done(
    worker, caller, tmp_path, make, name
):
    path = tmp_path / "made"
    result = caller.send_task("bench.echo", ([1, make(path)],), serializer="pickle")

    with pytest.raises(ContentDisallowed, match=f"the pickle names {name}, and only plain data"):
        result.get(timeout=30)
    assert not path.exists()
    assert worker.is_running()


REFUSED = [
    ("pickle", {1, 2}, "a set"),
    ("pickle", frozenset([1]), "a frozenset"),
    ("pickle", bytearray(b"x"), "a bytearray"),
    ("pickle", dt.timedelta(seconds=1), "a datetime.timedelta"),
    ("pickle", {(1, 2): 3}, "a list as the key of a mapping"),
    ("pickle", {b"k": 3}, "bytes as the key of a mapping"),
    ("pickle", 1 << 200, "an integer of 26 bytes"),
    ("pickle", float("nan"), "the float NaN"),
    ("yaml", {1, 2}, 'the tag "set"'),
    ("yaml", float("-inf"), "the float -inf"),
    ("msgpack", float("nan"), "the float NaN"),
    ("json", float("nan"), "NaN and Infinity are words of Python's"),
    ("json", 1 << 64, "an integer in args has more than 64 bits"),
    ("yaml", -(1 << 64), "an integer in args has more than 64 bits"),
    ("pickle", 1 << 64, "an integer in args has more than 64 bits"),
    ("json", {"__type__": "moon", "__value__": 1}, '__type__ "moon" is unknown'),
]


@pytest.mark.parametrize(("serializer", "value", "complaint"), REFUSED)
def test_what_a_rust_task_cannot_be_given_is_the_callers_error(
    worker, caller, serializer, value, complaint
):
    result = caller.send_task("bench.echo", (value,), serializer=serializer)

    with pytest.raises(DecodeError) as raised:
        result.get(timeout=30)
    assert complaint in str(raised.value)


@pytest.mark.parametrize("compression", sorted(encoders()))
def test_a_body_that_would_fill_the_memory_is_refused(
    worker, caller, redis_server, database, compression
):
    if compression == "application/x-gzip":
        body = zlib.compress(b"[" + b" " * 500_000_000, 9)
    else:
        body = kombu.compression.compress(b"[" + b" " * 40_000_000, compression)[0]
    message = envelope("bench.echo", 1)
    message["headers"]["compression"] = compression
    message["body"] = encode(body)
    with redis_server.client(database) as redis:
        push(redis, message)

    with pytest.raises(DecodeError, match="longer than the 33554432 bytes"):
        caller.AsyncResult(message["headers"]["id"]).get(timeout=60)
    assert peak_memory(worker) < 300 << 20


@pytest.mark.parametrize(
    ("content_type", "body", "complaint"),
    [
        (
            "application/json",
            b"[[" + b"0," * 15_000_000 + b"0],{},null]",
            "more than the .* values",
        ),
        ("application/x-yaml", b"[" + b"0," * 15_000_000 + b"0]", "1048576 bytes of YAML"),
        ("application/x-python-serialize", b"(" + b"]" * 30_000_000 + b"l.", "more than .* values"),
        ("application/x-msgpack", b"\xdd\xff\xff\xff\xff" + b"\xc0" * 30_000_000, "of JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_body_of_many_small_values_is_refused(
    app, programs, redis, content_type, body, complaint
):
    worker = programs.interop_worker("-c", "1", CELERY_ACCEPT_CONTENT="json,yaml,msgpack,pickle")
    message = envelope("bench.echo", 1)
    message["headers"]["compression"] = "application/x-gzip"
    message |= {"content-type": content_type, "body": encode(zlib.compress(body))}
    push(redis, message)

    with pytest.raises(DecodeError, match=complaint):
        app.AsyncResult(message["headers"]["id"]).get(timeout=60)
    assert peak_memory(worker) < 300 << 20


def peak_memory(process):
    """Bytes that the process has had in memory at once."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def test_the_longest_body_is_the_operators_choice(app, programs):
    programs.interop_worker(WORKER_LONGEST_BODY="2000")
    short = app.send_task("bench.echo", ("x" * 1000,), compression="zlib")
    long = app.send_task("bench.echo", ("x" * 3000,), compression="zlib")

    assert short.get(timeout=30) == "x" * 1000
    with pytest.raises(DecodeError, match="longer than the 2000 bytes"):
        long.get(timeout=30)


@pytest.mark.parametrize("serializer", ["yaml", "msgpack", "pickle"])
def test_bytes_of_no_serializer_are_the_callers_error(
    worker, caller, redis_server, database, serializer
):
    ids = []
    chance = random.Random(11)  # noqa: S311, cases, not secrets
    whole = kombu.serialization.dumps([[PLAIN], {}, None], serializer)[2]
    whole = whole.encode() if isinstance(whole, str) else whole
    content_type = kombu.serialization.registry.name_to_type[serializer]
    with redis_server.client(database) as redis:
        for _ in range(100):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            message = envelope("bench.echo", 1)
            message |= {"content-type": content_type, "body": encode(bytes(damaged))}
            ids.append(message["headers"]["id"])
            push(redis, message)

    for task_id in ids:
        caller.AsyncResult(task_id).get(timeout=30, propagate=False)
    assert worker.is_running()
    assert caller.send_task("bench.echo", (1,)).get(timeout=30) == 1
