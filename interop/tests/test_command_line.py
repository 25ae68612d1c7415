"""`celery inspect` and `celery control` print of our workers what they print of Python's."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from hearing import listening
from steering import OURS, PYTHONS, ask_node, celery, ours, pythons
from waiting import until

NODES = ["-d", f"{OURS},{PYTHONS}", "-t", "20"]
# What must differ: node names, ids of tasks, numbers, where a worker's memory goes.
DIFFERS = re.compile(
    r"ours(@here)?|python(@here)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d.]+"
)


class Fleet:
    """One worker of ours and one of Celery's, each with a queue of its own."""

    def __init__(self, app: Celery, url: str) -> None:
        self.app = app
        self.url = url

    def says(self, *command: str) -> tuple[dict[str, str], int]:
        """What each node says, as the command line prints it, and the exit status."""
        done = celery(self.url, *command[:2], *NODES, *command[2:])
        text = done.stdout.rsplit("\n\n", 1)[0] if command[0] == "inspect" else done.stdout
        parts = re.split(rf"^->  ({OURS}|{PYTHONS}): ", text, flags=re.MULTILINE)
        assert len(parts) == 5, f"{command}: {done.stdout}{done.stderr}"
        said = [part.rstrip() for part in parts[2::2]]
        return dict(zip(parts[1::2], said, strict=True)), done.returncode

    def fill(self) -> None:
        """A task that runs and one that waits for its eta in each."""
        for queue in ("ours", "python"):
            self.app.send_task("bench.sleep", (600,), {}, queue=queue)
            self.app.send_task("bench.noop", queue=queue, countdown=3600)
        until(lambda: all(map(len, self.tells("active"))), "a task runs in each")
        until(lambda: all(map(len, self.tells("scheduled"))), "one waits in each")

    def tells(self, command: str, **arguments: Any) -> list[Any]:
        """What each node replies, ours first."""
        return [ask_node(self.app, node, command, **arguments) for node in (OURS, PYTHONS)]


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    from conftest import celery_app, programs_on

    server = request.getfixturevalue("redis_server")
    url = server.url(next(request.getfixturevalue("redis_databases")))
    for programs in programs_on(request, url):
        with celery_app(url) as app:
            ours(programs, "-c", "2", "-Q", "ours")
            pythons(app, programs, "-c", "2", "-Q", "python")
            fleet = Fleet(app, url)
            fleet.fill()
            yield fleet


@pytest.mark.parametrize(
    "command",
    [
        "inspect ping",
        "inspect active",
        "inspect reserved",
        "inspect scheduled",
        "inspect query_task unknown",
        "inspect revoked",
        "inspect active_queues",
        "inspect clock",
        "control revoke one",
        "control terminate KILL one",
        "control revoke_by_stamped_headers tenant=acme",
        "control rate_limit bench.noop 7/m",
        "control rate_limit bench.noop 0",
        "control rate_limit bench.noop often",
        "control rate_limit no.such 7/m",
        "control time_limit bench.noop 50 60",
        "control time_limit no.such 50 60",
        "control enable_events",
        "control enable_events",
        "control disable_events",
        "control disable_events",
        "control heartbeat",
        "control pool_grow 1",
        "control pool_shrink 1",
        "control pool_restart",
        "control autoscale 3 1",
        "control add_consumer extra",
        "control cancel_consumer extra",
    ],
)
def test_the_same_is_printed_of_both(fleet: Fleet, command: str) -> None:
    says, status = fleet.says(*command.split())

    mine, theirs = (DIFFERS.sub("…", says[node]) for node in (OURS, PYTHONS))
    assert mine == theirs
    assert status == 0


def shape(value: Any) -> Any:
    """Keys and types; of a list those of its first."""
    match value:
        case dict():
            return {key: shape(member) for key, member in value.items()}
        case list():
            return [shape(value[0])] if value else []
        case _:
            return type(value).__name__


@pytest.mark.parametrize("command", ["active", "scheduled", "active_queues", "clock", "query_task"])
def test_replies_have_the_same_keys_and_types(fleet: Fleet, command: str) -> None:
    ids = [entry["id"] for entries in fleet.tells("active") for entry in entries]
    mine, theirs = fleet.tells(command, **({"ids": ids} if command == "query_task" else {}))

    if command == "query_task":
        mine, theirs = list(mine.values()), list(theirs.values())
    assert shape(mine) == shape(theirs)
    assert mine and theirs


def test_stats_have_the_same_keys_and_types(fleet: Fleet) -> None:
    mine, theirs = (shape(reply) for reply in fleet.tells("stats"))

    # How a pool of processes is made says nothing about slots; counts are by task.
    for reply in (mine, theirs):
        reply["total"] = set(reply["total"].values())
        reply["pool"].pop("start-method", None)
        reply["pool"]["writes"].pop("inqueues")
    assert mine == theirs


def test_registered_tasks_are_printed_as_of_a_python_worker(fleet: Fleet) -> None:
    says, _ = fleet.says("inspect", "registered", "name", "rate_limit")

    for node in (OURS, PYTHONS):
        assert "\n    * bench.noop [name=bench.noop" in says[node]
        assert "* celery." not in says[node]


def test_settings_and_report_are_printed(fleet: Fleet) -> None:
    mine, theirs = fleet.tells("conf")
    # Those that exist here mean the same, and are of the same type.
    assert {"broker_url", "result_backend", "task_default_queue"} <= set(mine)
    same = [key for key in mine if key in theirs]
    assert [key for key in same if type(mine[key]) is not type(theirs[key])] == []
    says, status = fleet.says("inspect", "report")
    assert status == 0
    for node in (OURS, PYTHONS):
        assert "software -> celery:" in says[node]
        assert "settings -> transport:redis results:redis" in says[node]


def test_memory_is_printed(fleet: Fleet) -> None:
    """A Python worker says nothing of it where psutil is not installed."""
    says, _ = fleet.says("inspect", "memsample")
    assert re.fullmatch(r"OK\n    [\d.]+MB", says[OURS])
    says, _ = fleet.says("inspect", "memdump")
    assert re.search(r"- rss \(end\): [\d.]+MB\.$", says[OURS])


def test_json_and_exit_status(fleet: Fleet) -> None:
    for command in ("ping", "active_queues", "stats"):
        done = celery(fleet.url, "inspect", command, *NODES, "--json")
        assert set(json.loads(done.stdout)) == {OURS, PYTHONS}
    assert celery(fleet.url, "inspect", "ping", "-d", "nobody@here").returncode == 69
    status = celery(fleet.url, "status")
    assert {f"->  {OURS}: OK", f"->  {PYTHONS}: OK"} < set(status.stdout.splitlines())
    assert "2 nodes online." in status.stdout


def test_a_heartbeat_that_is_asked_for_is_the_same(fleet: Fleet) -> None:
    """The event itself: what Flower asks for when it starts."""

    def asked_for(node: str) -> dict[str, Any] | None:
        # A regular one has another frequency.
        events = [event for event in list(heard.events) if event["type"] == "worker-heartbeat"]
        return next((it for it in events if (it["hostname"], it["freq"]) == (node, 5)), None)

    with listening(fleet.app) as heard:

        def asked() -> bool:
            # Who has just begun to listen may miss what is told at once.
            fleet.app.control.broadcast("heartbeat", reply=True, timeout=10, limit=2)
            return bool(asked_for(OURS) and asked_for(PYTHONS))

        until(asked, "both have sent one")

    assert shape(asked_for(OURS)) == shape(asked_for(PYTHONS))
