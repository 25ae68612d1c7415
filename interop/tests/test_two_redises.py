"""Broker and result backend on two servers: no step is lost between the two."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord, group, signature
from redis import Redis

from conftest import celery_app, programs_on
from messages import idle, unacked, waiting
from processes import Process
from programs import Programs
from sentinel import ConfiguredRedis
from steering import ready
from waiting import until

LEASE = {"WORKER_LEASE_SECONDS": "1"}


@pytest.fixture
def servers(folder: Path, request: pytest.FixtureRequest) -> Iterator[list[ConfiguredRedis]]:
    """The broker and the result backend, both for the test to harm."""
    path = folder / f"redises_{request.node.name}"
    path.mkdir()
    servers = [ConfiguredRedis(path / name) for name in ("broker", "backend")]
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def programs(servers: list[ConfiguredRedis], request: pytest.FixtureRequest) -> Iterator[Programs]:
    for programs in programs_on(request, servers[0].url()):
        programs.env["CELERY_RESULT_BACKEND"] = servers[1].url()
        yield programs


@pytest.fixture
def app(servers: list[ConfiguredRedis]):
    with celery_app(servers[0].url()) as app:
        app.conf.result_backend = servers[1].url()
        yield app


def halt(server: ConfiguredRedis) -> None:
    server.process.send(signal.SIGSTOP)
    stat = Path(f"/proc/{server.process.pid}/stat")
    until(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", "it is halted")


def misses(worker: Process, server: ConfiguredRedis) -> None:
    until(lambda: f"{server.url()} cannot serve" in worker.output(), "it misses that one")


def settled(broker: Redis) -> bool:
    return idle(broker)


def test_a_message_is_acknowledged_only_when_its_result_is_stored(app, programs, servers):
    broker, backend = servers
    worker = ready(programs.interop_worker("-c", "1", **LEASE))
    result = app.send_task("bench.hold", ("release",))
    until(lambda: unacked(broker.client()) == 1, "it runs")

    halt(backend)
    broker.client().set("release", 1)
    misses(worker, backend)
    assert unacked(broker.client()) == 1

    # Nothing of it is lost with the worker, either.
    worker.kill()
    backend.process.send(signal.SIGCONT)
    programs.interop_worker("-c", "1", **LEASE)
    assert result.get(timeout=30) == "release"
    until(lambda: settled(broker.client()), "its message is settled")


def test_the_next_step_is_sent_only_when_the_result_is_stored(app, programs, servers):
    """And with the acknowledgement: the step is there once, whatever happens in between."""
    broker, backend = servers
    worker = ready(programs.interop_worker("-c", "1", **LEASE))
    steps = signature("bench.hold", ("release",)) | signature(
        "bench.incr", ("calls",), immutable=True, queue="later"
    )
    result = steps.apply_async()
    until(lambda: unacked(broker.client()) == 1, "the first step runs")

    halt(backend)
    broker.client().set("release", 1)
    misses(worker, backend)
    assert waiting(broker.client(), "later") == 0
    backend.process.send(signal.SIGCONT)

    assert result.parent.get(timeout=30) == "release"
    until(lambda: settled(broker.client()), "its message is settled")
    assert waiting(broker.client(), "later") == 1


def when(commands: Any, what: Callable[[str], bool]) -> float:
    """When the first such command was done."""
    return next(line["time"] for line in commands.listen() if what(line["command"]))


def test_a_chord_is_closed_only_when_its_body_is_sent(app, programs, servers):
    """A crash in between calls the body twice; the other order would lose it."""
    broker, backend = servers
    ready(programs.interop_worker("-c", "2"))
    with broker.client().monitor() as messages, backend.client().monitor() as records:
        header = group([signature("bench.add", (n, n)) for n in range(2)])
        result = chord(header, signature("bench.echo")).apply_async()
        assert result.get(timeout=30) == [0, 2]

        sent = when(messages, lambda said: said.startswith("LPUSH celery ") and result.id in said)
        chord_of = f"celery-taskset-meta-{result.parent.id}.c"
        closed = when(records, lambda said: said.startswith(f"SET {chord_of} done"))

    assert sent < closed
