"""Exporters for Prometheus say the same of our workers as of Python's."""

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from conftest import celery_app, programs_on
from programs import Programs
from servers import RedisServer, free_port
from waiting import until

# A sample's name and labels; what it is of, not its value.
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
NODE = "measured@here"


def scrape(port: int) -> Samples:
    """What the exporter says; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text = response.read().decode()
    except OSError:
        return {}
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name.startswith(("celery", "flower"))
    }


def value(samples: Samples, metric: str, /, **labels: str) -> float:
    return samples.get((metric, frozenset(labels.items())), 0)


def of_tasks(samples: Samples) -> Samples:
    """The samples that count tasks of ours, as often as they have happened."""

    def counts_tasks(name: str, labels: dict[str, str]) -> bool:
        task = labels.get("name", labels.get("task", "bench."))
        about_tasks = labels.get("type", "task-").startswith("task-")
        counts = name.endswith(("_total", "_count", "celery_tasks", "celery_tasks_by_name"))
        return counts and about_tasks and task.startswith("bench.")

    return {
        (name, labels): count
        for (name, labels), count in samples.items()
        if count and counts_tasks(name, dict(labels))
    }


def listening(redis: Redis, database: str) -> int:
    """How many listen to patterns of channels, as those who want events do."""
    clients = redis.client_list()
    return sum(client["db"] == database and client["psub"] != "0" for client in clients)


Measure = Callable[[Callable[[Programs, int], object], Callable[[Samples], bool]], list[Samples]]


@pytest.fixture
def measure(
    request: pytest.FixtureRequest, redis_server: RedisServer, redis_databases: Iterator[int]
) -> Measure:
    """Has an exporter watch a worker of ours and a Python one, each doing the same two tasks."""

    def watch(
        programs: Programs,
        url: str,
        start: Callable[[Programs, int], object],
        complete: Callable[[Samples], bool],
        python: bool,
    ) -> Samples:
        start_worker = programs.python_worker if python else programs.interop_worker
        worker = start_worker("-c", "1", "-n", NODE)
        until(lambda: " ready" in worker.output(), "the worker is ready")
        port = free_port()
        start(programs, port)
        database = url.rpartition("/")[2]
        # A Python worker listens so to commands and to the others' events.
        listeners = 3 if python else 1
        with redis_server.client() as redis:
            until(lambda: listening(redis, database) == listeners, "the exporter listens")
        until(lambda: "enabled" in worker.output(), "task events are on")
        with celery_app(url) as app:
            app.send_task("bench.noop").get(timeout=30)
            app.send_task("bench.incr", kwargs={"no_such": 1}).get(timeout=30, propagate=False)
        until(lambda: complete(scrape(port)), "both tasks are counted")
        return scrape(port)

    def watch_both(
        start: Callable[[Programs, int], object], complete: Callable[[Samples], bool]
    ) -> list[Samples]:
        found = []
        name = request.node.name
        for python in (False, True):
            url = redis_server.url(next(redis_databases))
            request.node.name = f"{name}-{python}"
            with contextmanager(programs_on)(request, url) as programs:
                found.append(watch(programs, url, start, complete, python))
        request.node.name = name
        return found

    return watch_both


def test_an_exporter_has_the_same_metrics_of_both(measure):
    ours, pythons = measure(
        lambda programs, port: programs.exporter(port),
        lambda samples: (
            value(samples, "celery_tasks", state="SUCCESS") == 1
            and value(samples, "celery_tasks", state="FAILURE") == 1
            and value(samples, "celery_workers") == 1
        ),
    )

    assert {name for name, _ in ours} == {name for name, _ in pythons}
    assert of_tasks(ours) == of_tasks(pythons)
    assert value(ours, "celery_tasks_by_name", state="SUCCESS", name="bench.noop") == 1


def test_celery_exporter_has_the_same_metrics_of_both(measure):
    def counted(samples: Samples, state: str) -> bool:
        of_state = (labels for name, labels in samples if name == "celery_tasks_total")
        return any(
            samples["celery_tasks_total", labels] == 1
            for labels in of_state
            if dict(labels)["state"] == state
        )

    ours, pythons = measure(
        lambda programs, port: programs.celery_exporter(port),
        lambda samples: (
            counted(samples, "SUCCESS")
            and counted(samples, "FAILURE")
            and value(samples, "celery_workers", namespace="celery") == 1
        ),
    )

    assert {name for name, _ in ours} == {name for name, _ in pythons}
    assert of_tasks(ours) == of_tasks(pythons)
    # Of the queue only the sender could tell.
    done = {"namespace": "celery", "name": "bench.noop", "queue": "undefined"}
    assert value(ours, "celery_tasks_total", state="SUCCESS", **done) == 1
    assert value(ours, "celery_tasks_runtime_seconds_count", **done) == 1
    assert value(ours, "celery_tasks_latency_seconds_count", **done) == 1


def test_flower_has_the_same_metrics_of_both(measure):
    done = {"worker": NODE, "task": "bench.noop", "type": "task-succeeded"}
    failed = {"worker": NODE, "task": "bench.incr", "type": "task-failed"}
    ours, pythons = measure(
        lambda programs, port: programs.flower(port),
        lambda samples: (
            value(samples, "flower_events_total", **done) == 1
            and value(samples, "flower_events_total", **failed) == 1
        ),
    )

    assert {name for name, _ in ours} == {name for name, _ in pythons}
    assert of_tasks(ours) == of_tasks(pythons)
    assert value(ours, "flower_worker_online", worker=NODE) == 1
