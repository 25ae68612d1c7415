"""Remote control by Celery's own client, and by anything that can publish."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError

from messages import idle, unacked, waiting
from steering import OURS, PYTHONS, ask, celery, ours, pythons, ready
from waiting import until

SCHEDULED = "_celery_redis.scheduled"

# -- Replies as a Python worker's


@pytest.fixture(scope="module")
def both(request: pytest.FixtureRequest) -> Any:
    """A worker of ours and a Python one on one broker, and an app that asks them."""
    from conftest import celery_app, programs_on

    server = request.getfixturevalue("redis_server")
    url = server.url(next(request.getfixturevalue("redis_databases")))
    for programs in programs_on(request, url):
        with celery_app(url) as app:
            ours(programs, "-c", "2")
            pythons(app, programs, "-c", "2")
            yield app


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("ping", {}),
        ("active", {}),
        ("active", {"safe": True}),
        ("reserved", {}),
        ("scheduled", {}),
        ("query_task", {"ids": ["unknown"]}),
        ("query_task", {"ids": "unknown"}),
        ("active_queues", {}),
        ("rate_limit", {"task_name": "bench.noop", "rate_limit": "10/m"}),
        ("rate_limit", {"task_name": "bench.noop", "rate_limit": "0"}),
        ("rate_limit", {"task_name": "bench.noop", "rate_limit": 0}),
        ("rate_limit", {"task_name": "bench.noop", "rate_limit": ""}),
        ("rate_limit", {"task_name": "bench.noop", "rate_limit": "zz"}),
        ("rate_limit", {"task_name": "no.such", "rate_limit": "10/m"}),
        ("rate_limit", {}),
        ("time_limit", {"task_name": "bench.noop", "soft": 10.0, "hard": 20.0}),
        ("time_limit", {"task_name": "bench.noop", "soft": None, "hard": None}),
        ("time_limit", {"task_name": "no.such"}),
        ("enable_events", {}),
        ("enable_events", {}),
        ("disable_events", {}),
        ("disable_events", {}),
        ("heartbeat", {}),
        ("election", {}),
        ("pool_grow", {"n": 1}),
        ("pool_shrink", {"n": 1}),
        ("pool_restart", {}),
        ("autoscale", {"max": 3, "min": 1}),
        ("add_consumer", {"queue": "extra"}),
        ("add_consumer", {}),
        ("cancel_consumer", {"queue": "extra"}),
        ("revoke", {"task_id": "one"}),
        ("revoke", {"task_id": ["one"]}),
        ("revoke", {"task_id": ["one"], "terminate": True, "signal": "SIGKILL"}),
        ("revoke", {}),
        ("terminate", {"signal": "TERM", "task_id": ["one"]}),
        ("revoked", {}),
        ("revoke_by_stamped_headers", {"headers": {"tenant": ["acme"]}}),
        ("revoke_by_stamped_headers", {"headers": {"tenant": "acme"}, "terminate": True}),
        ("revoke_by_stamped_headers", {"headers": ["tenant=acme"]}),
        ("fly", {}),
    ],
)
def test_a_reply_is_the_same_as_a_python_workers(both, command, arguments):
    replies = both.control.broadcast(command, arguments=arguments, reply=True, timeout=30, limit=2)
    by_node = {node: reply for one in replies for node, reply in one.items()}

    assert set(by_node) == {OURS, PYTHONS}
    assert by_node[OURS] == by_node[PYTHONS]


def test_figures_have_the_fields_of_a_python_worker(both):
    def asked(command: str) -> tuple[dict[str, Any], dict[str, Any]]:
        replies = both.control.broadcast(command, reply=True, timeout=30, limit=2)
        by_node = {node: reply for one in replies for node, reply in one.items()}
        return by_node[OURS], by_node[PYTHONS]

    mine, theirs = asked("stats")
    assert set(theirs) <= set(mine)
    assert set(theirs["pool"]) <= set(mine["pool"])
    assert set(theirs["broker"]) == set(mine["broker"])
    assert set(theirs["rusage"]) == set(mine["rusage"])
    for field in ("hostname", "port", "virtual_host", "transport"):
        assert mine["broker"][field] == theirs["broker"][field]
    assert mine["pool"]["max-concurrency"] == 2
    assert mine["rusage"]["maxrss"] > 0

    mine, theirs = asked("conf")
    for url in ("broker_url", "result_backend"):
        assert mine[url].endswith(theirs[url].rsplit("@", 1)[-1])
    mine, theirs = asked("clock")
    assert set(mine) == set(theirs) == {"clock"}
    mine, theirs = asked("report")
    assert "software -> celery:" in mine["ok"] and "transport:redis" in mine["ok"]
    mine, theirs = asked("memsample")
    assert mine.endswith("MB")


# -- Who is meant, and who replies


def test_nodes_are_chosen_by_name_or_pattern(app, programs):
    ours(programs)

    def reached(**chosen: Any) -> bool:
        return bool(app.control.broadcast("ping", reply=True, timeout=30, limit=1, **chosen))

    def missed(**chosen: Any) -> bool:
        return not app.control.broadcast("ping", reply=True, timeout=0.5, **chosen)

    assert reached()
    assert reached(destination=[OURS, "theirs@here"])
    assert missed(destination=["theirs@here"])
    assert reached(pattern="ours@*", matcher="glob")
    assert missed(pattern="their*", matcher="glob")
    assert reached(pattern="o.rs@", matcher="pcre")
    assert missed(pattern="here", matcher="pcre")


def test_the_command_line_says_what_it_says_of_a_python_worker(broker_url, programs):
    ours(programs)

    status = celery(broker_url, "status")
    assert (status.returncode, status.stdout) == (0, f"->  {OURS}: OK\n\n1 node online.\n")
    ping = celery(broker_url, "inspect", "ping", "-d", OURS)
    assert ping.stdout == f"->  {OURS}: OK\n        pong\n\n1 node online.\n"
    assert celery(broker_url, "inspect", "ping", "-d", "theirs@here").returncode == 69
    grown = celery(broker_url, "control", "pool_grow", "2")
    assert grown.stdout == f"->  {OURS}: OK\n        pool will grow\n"
    refused = celery(broker_url, "control", "autoscale", "3", "1")
    assert refused.stdout == f"->  {OURS}: ERROR\n        ValueError('Autoscale not enabled')\n"
    registered = celery(broker_url, "inspect", "registered")
    assert "\n    * bench.noop\n" in registered.stdout
    stats = celery(broker_url, "inspect", "stats", "--json")
    assert json.loads(stats.stdout)[OURS]["pool"]["max-concurrency"] == 3


def publish(app: Celery, routing_key: str) -> None:
    """Asks for a ping on behalf of whoever listens to `routing_key`."""
    reply_to = {"exchange": "reply.celery.pidbox", "routing_key": routing_key}
    body = {"method": "ping", "arguments": {}, "ticket": "t", "reply_to": reply_to}
    with app.connection_for_write() as connection:
        exchange = app.control.mailbox(connection).exchange
        connection.Producer(serializer="json").publish(body, exchange=exchange, declare=[exchange])


def test_a_reply_waits_for_its_asker_but_not_for_ever(app, programs, redis):
    ours(programs)
    routing_key, queue = str(uuid.uuid4()), "abandoned.reply.celery.pidbox"
    binding = f"{routing_key}\x06\x16\x06\x16{queue}"
    redis.sadd("_kombu.binding.reply.celery.pidbox", binding)

    publish(app, routing_key)

    until(lambda: redis.llen(queue) == 1, "the reply is there")
    assert 0 < redis.ttl(queue) <= 60


def test_an_asker_that_is_gone_gets_no_reply(app, programs, redis):
    ours(programs)
    publish(app, "gone")
    assert ask(app, "ping") == {"ok": "pong"}

    assert [key for key in redis.scan_iter("*") if "gone" in key] == []


def test_what_is_no_request_disturbs_nobody(app, programs, redis, redis_database):
    ours(programs)
    channel = f"/{redis_database}.celery.pidbox"
    for message in [
        *("not json", "[]", "{}", "", "\xff", '{"body": "%%%"}', '{"body": "W10=", "headers": 5}'),
        # {"method": 7}, {"method": "ping", "destination": 7}, headers of other types
        '{"body": "eyJtZXRob2QiOiA3fQ=="}',
        '{"body": "eyJtZXRob2QiOiAicGluZyIsICJkZXN0aW5hdGlvbiI6IDd9"}',
        '{"body": "eyJtZXRob2QiOiAicGluZyJ9", "headers": {"clock": "x", "expires": []}}',
    ]:
        assert redis.publish(channel, message) == 1
    for command, arguments in [
        ("revoke", {"task_id": {"a": 1}}),
        ("revoke", {"task_id": "x", "terminate": True, "signal": "SIGNONE"}),
        ("revoke_by_stamped_headers", {"headers": 7}),
        ("revoke_by_stamped_headers", {"headers": ["tenant"]}),
        ("time_limit", {"task_name": "bench.noop", "soft": "soon"}),
        ("pool_grow", {"n": -1}),
        ("pool_grow", {"n": 1_000_000}),
        ("pool_shrink", {"n": 1}),
        ("add_consumer", {"queue": "q", "exchange_type": "topic"}),
        ("query_task", {"ids": 7}),
        ("hello", {"from_node": "x", "revoked": 7}),
    ]:
        assert "error" in ask(app, command, **arguments), command

    assert ask(app, "ping") == {"ok": "pong"}


def test_remote_control_can_be_off(app, programs, redis, redis_database):
    ours(programs, "-c", "1", CELERY_WORKER_ENABLE_REMOTE_CONTROL="false")

    assert redis.publish(f"/{redis_database}.celery.pidbox", "{}") == 0
    assert app.send_task("bench.add", (1, 2)).get(timeout=30) == 3


def test_commands_that_change_something_can_be_off(app, programs, redis):
    ours(programs, "-c", "1", WORKER_REMOTE_CONTROL_CHANGES="false")

    assert ask(app, "ping") == {"ok": "pong"}
    assert ask(app, "active") == []
    for command in ("revoke", "pool_grow", "enable_events", "add_consumer", "shutdown"):
        reply = ask(app, command, task_id="x", queue="x")
        assert "WORKER_REMOTE_CONTROL_CHANGES" in reply["error"]
    assert ask(app, "hello", from_node="other@here", revoked=["x"])["revoked"] == []
    assert app.send_task("bench.noop", task_id="x").get(timeout=30) is None


# -- Looking


def test_what_runs_is_shown(app, programs, redis):
    worker = ours(programs, "-c", "2")
    before = time.time()
    running = app.send_task("bench.sleep", (30,), {})
    until(lambda: ask(app, "active"), "it runs")

    (info,) = ask(app, "active")

    assert before - 1 < info.pop("time_start") < time.time() + 1
    assert info == {
        "id": running.id,
        "name": "bench.sleep",
        "args": [30],
        "kwargs": {},
        "type": "bench.sleep",
        "hostname": OURS,
        "acknowledged": False,
        "delivery_info": {
            "exchange": "",
            "routing_key": "celery",
            "priority": 0,
            "redelivered": False,
        },
        "worker_pid": worker.pid,
    }
    (safe,) = ask(app, "active", safe=True)
    assert (safe["args"], safe["kwargs"]) == ("(30,)", "{}")
    assert ask(app, "query_task", ids=[running.id])[running.id][0] == "active"
    assert ask(app, "stats")["total"] == {"bench.sleep": 1}


def test_a_message_that_is_acknowledged_early_is_shown_so(app, programs, redis):
    ours(programs, "-c", "1", CELERY_TASK_ACKS_LATE="false")
    app.send_task("bench.sleep", (30,))
    until(lambda: ask(app, "active"), "it runs")

    assert ask(app, "active")[0]["acknowledged"] is True


def test_what_waits_for_its_eta_is_shown_by_the_worker_that_put_it_away(app, programs, redis):
    ours(programs)
    later = app.send_task("bench.add", (1, 2), countdown=3600)
    until(lambda: redis.zcard(SCHEDULED) == 1, "it waits in Redis")
    other = ready(programs.interop_worker("-c", "1", "-n", "other@here"))

    def shown(node: str) -> list[Any]:
        return (app.control.inspect([node], timeout=30, limit=1).scheduled() or {})[node]

    (entry,) = shown(OURS)
    assert entry["eta"].endswith("+00:00")
    assert entry["priority"] == 6
    assert entry["request"]["id"] == later.id
    assert (entry["request"]["args"], entry["request"]["time_start"]) == ([1, 2], None)
    assert ask(app, "query_task", ids=[later.id])[later.id][0] == "scheduled"
    assert shown("other@here") == []
    assert other.is_running()


def test_what_a_worker_put_away_that_is_gone_is_shown_by_the_others(app, programs, redis):
    gone = ready(programs.interop_worker("-c", "1", "-n", "gone@here"))
    later = app.send_task("bench.add", (1, 2), countdown=3600)
    until(lambda: redis.zcard(SCHEDULED) == 1, "it waits in Redis")
    gone.send(15)
    gone.wait()
    ours(programs)

    assert [entry["request"]["id"] for entry in ask(app, "scheduled")] == [later.id]


def test_registered_tasks_are_shown_with_the_attributes_asked_for(app, programs):
    ours(programs)

    assert "bench.noop" in ask(app, "registered")
    assert ask(app, "rate_limit", task_name="bench.noop", rate_limit="2/s")
    assert "bench.noop [rate_limit=2/s]" in ask(app, "registered")
    named = ask(app, "registered", taskinfoitems=["name", "acks_late", "nothing"])
    assert "bench.noop [name=bench.noop acks_late=True]" in named


# -- Revoking


def test_a_revoked_message_in_the_queue_is_not_run(app, programs, redis):
    ours(programs)
    app.send_task("bench.hold", ("release",))
    until(lambda: unacked(redis) == 1, "the only slot is taken")
    revoked = app.send_task("bench.incr", ("runs",))

    assert ask(app, "revoke", task_id=revoked.id) == {
        "ok": f"tasks {{'{revoked.id}'}} flagged as revoked"
    }

    # Its caller is told at once, as by a Python worker.
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=30)
    assert waiting(redis) == 1
    redis.set("release", 1)
    until(lambda: idle(redis), "its message is settled")
    assert redis.get("runs") is None


def test_a_revoked_message_that_waits_for_its_eta_is_not_run(app, programs, redis):
    ours(programs)
    revoked = app.send_task("bench.incr", ("runs",), countdown=6)
    until(lambda: redis.zcard(SCHEDULED) == 1, "it waits in Redis")

    ask(app, "revoke", task_id=revoked.id)

    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=30)
    until(lambda: redis.zcard(SCHEDULED) == unacked(redis) == waiting(redis) == 0, "it is settled")
    assert redis.get("runs") is None


def test_a_revoke_before_the_sending_counts(app, programs, redis):
    ours(programs)
    ask(app, "revoke", task_id=["early"])

    with pytest.raises(TaskRevokedError):
        app.send_task("bench.incr", ("runs",), task_id="early").get(timeout=30)
    until(lambda: idle(redis), "its message is settled")
    assert redis.get("runs") is None


def test_a_worker_that_was_down_honours_a_revoke(app, programs, redis):
    first = ours(programs)
    revoked = app.send_task("bench.incr", ("runs",), countdown=6)
    until(lambda: redis.zcard(SCHEDULED) == 1, "it waits in Redis")
    ask(app, "revoke", task_id=revoked.id)
    first.kill()
    assert 0 < redis.zscore("_celery_redis.revoked", revoked.id) - time.time() <= 30 * 86400

    ours(programs)

    until(lambda: redis.zcard(SCHEDULED) == unacked(redis) == waiting(redis) == 0, "it is settled")
    assert redis.get("runs") is None
    assert revoked.state == "REVOKED"
    assert ask(app, "revoked") == [revoked.id]


def test_what_a_worker_tells_of_keeps_its_state_when_it_is_revoked(app, programs):
    ours(programs)
    app.backend.store_result("elsewhere", {"hostname": "other@here"}, "STARTED")
    app.backend.store_result("done", 4, "SUCCESS")
    app.backend.store_result("again", ValueError("x"), "RETRY")

    ask(app, "revoke", task_id=["elsewhere", "done", "again", "nobody"])

    states = {
        name: app.AsyncResult(name).state for name in ("elsewhere", "done", "again", "nobody")
    }
    assert states == {
        "elsewhere": "STARTED",
        "done": "SUCCESS",
        "again": "REVOKED",
        "nobody": "REVOKED",
    }


def test_a_running_task_that_is_only_revoked_ends_by_itself(app, programs, redis):
    ours(programs)
    running = app.send_task("bench.hold", ("release",))
    until(lambda: ask(app, "active"), "it runs")

    ask(app, "revoke", task_id=running.id)

    assert running.state == "PENDING"
    redis.set("release", 1)
    assert running.get(timeout=30) == "release"


@pytest.mark.parametrize("acks_late", ["true", "false"])
def test_a_running_task_is_terminated(app, programs, redis, acks_late):
    ours(programs, "-c", "1", CELERY_TASK_ACKS_LATE=acks_late)
    running = app.send_task("bench.sleep", (60,))
    until(lambda: ask(app, "active"), "it runs")

    reply = ask(app, "terminate", signal="TERM", task_id=[running.id])

    assert reply == {"ok": f"terminate: {running.id}"}
    with pytest.raises(TaskRevokedError, match="terminated"):
        running.get(timeout=30)
    assert app.send_task("bench.add", (1, 2)).get(timeout=30) == 3
    assert unacked(redis) == waiting(redis) == 0


def test_a_terminated_task_that_blocks_is_answered_and_keeps_its_slot(app, programs, redis):
    ours(programs, "-c", "2", WORKER_STUCK_SLOTS="0")
    running = app.send_task("bench.block", (6,))
    until(lambda: ask(app, "active"), "it runs")

    ask(app, "revoke", task_id=running.id, terminate=True)

    with pytest.raises(TaskRevokedError, match="terminated"):
        running.get(timeout=30)
    assert app.send_task("bench.add", (1, 2)).get(timeout=30) == 3
    assert len(ask(app, "active")) == 1, "its thread is still at it"
    until(lambda: ask(app, "active") == [], "its thread has ended")
    # It has returned since; that changes nothing.
    assert running.state == "REVOKED"


def stamped(app: Celery, task: str, *args: Any, **stamps: Any) -> Any:
    headers = {"stamps": stamps, "stamped_headers": list(stamps)}
    return app.send_task(task, args, **stamps, stamped_headers=list(stamps), headers=headers)


def test_tasks_are_revoked_by_their_stamps_even_after_a_restart(app, programs, redis):
    worker = ours(programs)
    reply = ask(app, "revoke_by_stamped_headers", headers={"tenant": ["acme", 7]})
    assert reply["ok"].endswith("flagged as revoked, but not terminated")
    worker.kill()
    ours(programs)

    for value in ("acme", 7, ["x", "acme"]):
        with pytest.raises(TaskRevokedError):
            stamped(app, "bench.incr", "revoked", tenant=value).get(timeout=30)
    for value in ("other", "7"):
        stamped(app, "bench.incr", "runs", tenant=value).get(timeout=30)
    stamped(app, "bench.incr", "runs", customer="acme").get(timeout=30)

    assert redis.get("revoked") is None
    assert redis.get("runs") == "3"


def test_running_tasks_are_terminated_by_their_stamps(app, programs, redis):
    ours(programs, "-c", "2")
    stopped = stamped(app, "bench.hold", "never", tenant="acme")
    other = stamped(app, "bench.hold", "release", tenant="other")
    until(lambda: len(ask(app, "active")) == 2, "both run")

    reply = ask(app, "revoke_by_stamped_headers", headers={"tenant": "acme"}, terminate=True)

    assert reply == {"ok": "headers defaultdict(<class 'set'>, {'tenant': {'acme'}}) revoked"}
    with pytest.raises(TaskRevokedError, match="terminated"):
        stopped.get(timeout=30)
    redis.set("release", 1)
    assert other.get(timeout=30) == "release"


def test_the_id_of_an_expired_task_is_revoked(app, programs, redis):
    ours(programs)
    with pytest.raises(TaskRevokedError, match="expired"):
        app.send_task("bench.incr", ("runs",), task_id="late", expires=-1).get(timeout=30)
    assert ask(app, "revoked") == ["late"]

    app.send_task("bench.incr", ("runs",), task_id="late")

    until(lambda: idle(redis), "it is settled")
    assert redis.get("runs") is None


# -- Changing


def most_at_once(app: Celery, count: Callable[[], int], expected: int) -> None:
    """That so many of ten tasks run at the same time, and no more."""
    sent = [app.send_task("bench.sleep", (60,)) for _ in range(10)]
    until(lambda: count() == expected, f"{expected} run")
    ask(app, "revoke", task_id=[result.id for result in sent], terminate=True)
    until(lambda: count() == 0, "all have ended")


def test_the_pool_grows_and_shrinks(app, programs, redis):
    ours(programs, "-c", "2")

    def active() -> int:
        return len(ask(app, "active"))

    assert ask(app, "pool_grow", n=3) == {"ok": "pool will grow"}
    assert ask(app, "stats")["pool"]["max-concurrency"] == 5
    most_at_once(app, active, 5)
    assert ask(app, "pool_shrink", n=4) == {"ok": "pool will shrink"}
    most_at_once(app, active, 1)
    assert "ValueError" in ask(app, "pool_shrink")["error"]
    described = [json.loads(text) for text in redis.hgetall("_celery_redis.processes").values()]
    assert [process["concurrency"] for process in described] == [1]


def test_busy_slots_go_when_they_are_free(app, programs, redis):
    ours(programs, "-c", "3")
    for _ in range(3):
        app.send_task("bench.hold", ("release",))
    until(lambda: len(ask(app, "active")) == 3, "all slots are busy")

    ask(app, "pool_shrink", n=2)

    assert len(ask(app, "active")) == 3, "what runs is left alone"
    redis.set("release", 1)
    until(lambda: ask(app, "active") == [], "all have ended")
    most_at_once(app, lambda: len(ask(app, "active")), 1)


def test_a_worker_scales_itself(app, programs, redis):
    ours(programs, "--autoscale", "4,2")
    assert ask(app, "stats")["autoscaler"]["current"] == 2

    most_at_once(app, lambda: len(ask(app, "active")), 4)
    assert ask(app, "autoscale", max=3, min=1) == {"ok": "autoscale now max=3 min=1"}
    most_at_once(app, lambda: len(ask(app, "active")), 3)
    refused = "pool_grow is not supported with autoscale. Adjust autoscale range instead."
    assert ask(app, "pool_grow") == {"error": refused}


def test_queues_are_added_and_cancelled(app, programs, redis):
    ours(programs)
    waits = app.send_task("bench.add", (1, 2), queue="extra")

    assert ask(app, "add_consumer", queue="extra") == {"ok": "add consumer extra"}
    assert waits.get(timeout=30) == 3
    assert [queue["name"] for queue in ask(app, "active_queues")] == ["celery", "extra"]
    # A worker that waits for messages notices one in the new queue, of any priority.
    assert app.send_task("bench.add", (2, 2), queue="extra", priority=9).get(timeout=30) == 4
    assert redis.smembers("_kombu.binding.extra") == {"extra\x06\x16\x06\x16extra"}

    assert ask(app, "cancel_consumer", queue="celery") == {"ok": "no longer consuming from celery"}
    left = app.send_task("bench.add", (1, 1))
    assert app.send_task("bench.add", (3, 2), queue="extra").get(timeout=30) == 5
    assert waiting(redis) == 1
    described = [json.loads(text) for text in redis.hgetall("_celery_redis.processes").values()]
    assert [process["queues"] for process in described] == [["extra"]]

    ask(app, "cancel_consumer", queue="extra")
    assert ask(app, "active_queues") == []
    ask(app, "add_consumer", queue="celery")
    assert left.get(timeout=30) == 2


def test_rate_and_time_limits_are_changed(app, programs):
    ours(programs, "-c", "4")
    ask(app, "time_limit", task_name="bench.sleep", soft=None, hard=0.2)
    slow = app.send_task("bench.sleep", (60,))
    assert "TimeLimitExceeded" in repr(slow.get(timeout=30, propagate=False))

    ask(app, "rate_limit", task_name="bench.noop", rate_limit="2/s")
    begun = time.monotonic()
    for result in [app.send_task("bench.noop") for _ in range(5)]:
        result.get(timeout=30)
    # The first at once, the others half a second apart.
    assert time.monotonic() - begun > 1.9
    ask(app, "rate_limit", task_name="bench.noop", rate_limit="0")


def test_a_worker_is_shut_down(app, programs, redis):
    worker = ours(programs)
    running = app.send_task("bench.hold", ("release",))
    until(lambda: ask(app, "active"), "it runs")

    app.control.shutdown(destination=[OURS])
    until(lambda: "shutdown asked for" in worker.output(), "it has heard")
    redis.set("release", 1)

    assert worker.wait() == 0
    assert running.get(timeout=30) == "release"
    assert unacked(redis) == 0
