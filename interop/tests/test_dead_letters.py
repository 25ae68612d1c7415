"""What nobody can execute is kept, with its reason, and bounded."""

import base64
import json

import pytest
from redis import Redis

from chaos.events import begun
from messages import envelope, idle, push, unacked, waiting
from waiting import until

LEASE = {"WORKER_LEASE_SECONDS": "1"}
DEAD = "_celery_redis.dead"


def letters(redis):
    """Record and bytes of each dead letter, the oldest first."""
    return [
        (json.loads(redis.hget(f"{DEAD}_records", tag)), redis.hget(f"{DEAD}_messages", tag))
        for tag in redis.zrange(DEAD, 0, -1)
    ]


@pytest.fixture
def reaper(programs, redis):
    """A worker that executes nothing of the test's, and is never killed."""
    worker = programs.interop_worker("-Q", "other", **LEASE)
    until(lambda: redis.hlen("_celery_redis.processes") == 1, "it is known")
    return worker


def kill_whoever_runs_it(programs, redis, times, **env):
    for _ in range(times):
        runs = len(begun(redis))
        worker = programs.interop_worker("-c", "1", **LEASE, **env)
        until(lambda before=runs: len(begun(redis)) > before, "it runs")
        worker.kill()
        until(lambda: unacked(redis) == 0, "nobody has it any more")


def test_a_message_whose_processes_die_is_poison_at_the_third(app, programs, redis, reaper):
    sent = app.send_task("bench.record", ("poison", 300, 0))

    kill_whoever_runs_it(programs, redis, 3)

    [(record, message)] = letters(redis)
    assert record["reason"] == "poison"
    assert record["deliveries"] == 3
    assert record["queue"] == "celery"
    assert json.loads(message)["headers"]["id"] == sent.id
    assert waiting(redis) == 0
    said = "is a dead letter (poison): 3 processes died while they had it"
    until(lambda: said in reaper.output(), "the log says so")


def test_a_retry_of_the_task_is_no_death(app, programs, redis, reaper):
    programs.interop_worker("-c", "1", **LEASE)

    app.send_task("bench.record", ("key", 0.01, 5)).get(timeout=30)

    assert letters(redis) == []
    assert len(begun(redis)) == 6


def test_how_many_deaths_are_too_many_is_a_setting(app, programs, redis):
    env = {"WORKER_MAX_DELIVERIES": "1"}
    programs.interop_worker("-Q", "other", **LEASE, **env)
    app.send_task("bench.record", ("poison", 300, 0))

    kill_whoever_runs_it(programs, redis, 1, **env)

    [(record, _)] = letters(redis)
    assert (record["reason"], record["deliveries"]) == ("poison", 1)


def test_poison_beside_healthy_messages_takes_none_with_it(app, programs, redis, reaper):
    app.send_task("bench.record", ("poison", 300, 0))
    kill_whoever_runs_it(programs, redis, 2)
    healthy = [app.send_task("bench.record", (f"healthy-{n}", 0, 0)) for n in range(20)]
    kill_whoever_runs_it(programs, redis, 1)

    programs.interop_worker("-c", "4", **LEASE)

    for result in healthy:
        result.get(timeout=30)
    assert len(letters(redis)) == 1


UNREADABLE = {
    "no JSON": b"\xff\xfe not a message",
    "JSON of another kind": b"[1, 2]",
    "no headers": b'{"body": "", "properties": {}}',
    "an empty one": b"",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_message_keeps_its_bytes(programs, redis_server, redis_database, redis, name):
    worker = programs.interop_worker("-c", "1")
    push(redis, UNREADABLE[name])

    until(lambda: redis.zcard(DEAD) == 1, "it is a dead letter")

    [tag] = redis.zrange(DEAD, 0, -1)
    record = json.loads(redis.hget(f"{DEAD}_records", tag))
    assert record["reason"] == "undecodable"
    assert record["detail"]
    assert record["time"] > 1_700_000_000
    with Redis(port=redis_server.port, db=redis_database) as as_bytes:
        assert as_bytes.hget(f"{DEAD}_messages", tag) == UNREADABLE[name]
    until(lambda: "is a dead letter (undecodable)" in worker.output(), "the log says so")
    assert unacked(redis) == 0


def test_a_message_without_a_usable_id_is_kept(programs, redis):
    programs.interop_worker("-c", "1")
    message = envelope("bench.noop")
    message["headers"]["id"] = None
    message["properties"]["correlation_id"] = None
    push(redis, message)

    until(lambda: redis.zcard(DEAD) == 1, "it is a dead letter")

    [(record, kept)] = letters(redis)
    assert record["reason"] == "undecodable"
    assert json.loads(kept) == message


def test_the_number_of_dead_letters_is_bounded(programs, redis):
    worker = programs.interop_worker("-c", "1", WORKER_DEAD_LETTERS_KEPT="5")
    for number in range(8):
        push(redis, f"unreadable {number}")

    until(lambda: "the 1 oldest were dropped" in worker.output(), "it says what it drops")
    until(lambda: idle(redis), "all are seen")

    assert redis.zcard(DEAD) == redis.hlen(f"{DEAD}_records") == redis.hlen(f"{DEAD}_messages") == 5


def test_the_number_of_poisonous_dead_letters_is_bounded(app, programs, redis):
    env = {"WORKER_MAX_DELIVERIES": "1", "WORKER_DEAD_LETTERS_KEPT": "5"}
    programs.interop_worker("-Q", "other", **LEASE, **env)
    for number in range(8):
        app.send_task("bench.record", (str(number), 300, 0))
    worker = programs.interop_worker("-c", "8", **LEASE, **env)
    until(lambda: len(begun(redis)) == 8, "all run")

    worker.kill()
    until(lambda: unacked(redis) == 0, "nobody has them any more")

    assert redis.zcard(DEAD) == redis.hlen(f"{DEAD}_records") == redis.hlen(f"{DEAD}_messages") == 5


def dead(programs, *arguments):
    """`jwt_manage queue dead`, which has to succeed."""
    done = programs.jwt_manage("queue", "dead", *arguments, "--json")
    assert done.status == 0, done.stderr
    return done.json()


@pytest.fixture
def three_letters(programs, redis):
    """Three unreadable messages as dead letters; their bytes by name."""
    programs.interop_worker("-c", "1")
    for number in range(3):
        push(redis, f"unreadable {number}")
    until(lambda: redis.zcard(DEAD) == 3, "they are dead letters")
    return redis.hgetall(f"{DEAD}_messages")


def test_an_operator_lists_them_with_their_reasons(programs, three_letters):
    listed = dead(programs, "list")

    assert listed["total"] == 3
    assert {letter["name"] for letter in listed["dead_letters"]} == set(three_letters)
    for letter in listed["dead_letters"]:
        assert (letter["reason"], letter["queue"]) == ("undecodable", "celery")
        assert letter["detail"]
    assert len(dead(programs, "list", "--limit", "2")["dead_letters"]) == 2


def test_an_operator_is_shown_the_original_bytes(programs, three_letters):
    for name, message in three_letters.items():
        shown = dead(programs, "show", name)

        assert shown["message"] == message
        assert base64.b64decode(shown["message_base64"]) == message.encode()


def test_an_operator_drops_the_named_one_only(programs, redis, three_letters):
    [name, *others] = three_letters

    assert dead(programs, "drop", name) == {"dropped": [name]}

    assert sorted(redis.zrange(DEAD, 0, -1)) == sorted(others)
    assert set(redis.hgetall(f"{DEAD}_messages")) == set(others)
    assert set(redis.hgetall(f"{DEAD}_records")) == set(others)


def test_an_operator_is_told_when_there_is_no_such_letter(programs, redis, three_letters):
    [name, *_] = three_letters

    done = programs.jwt_manage("queue", "dead", "drop", name, "nonsense")

    assert done.status != 0
    assert "nonsense" in done.stderr
    assert redis.zcard(DEAD) == 3


def test_a_retry_puts_the_exact_bytes_back_at_the_list_they_came_from(app, programs, redis):
    env = {"WORKER_MAX_DELIVERIES": "1"}
    programs.interop_worker("-Q", "other", **LEASE, **env)
    sent = app.send_task("bench.record", ("once poison", 1, 0), priority=6)
    original = redis.lindex("celery\x06\x166", 0)
    kill_whoever_runs_it(programs, redis, 1, **env)
    [name] = redis.zrange(DEAD, 0, -1)

    assert dead(programs, "retry", name) == {"retried": [name]}

    assert redis.lrange("celery\x06\x166", 0, -1) == [original]
    assert letters(redis) == []
    assert dead(programs, "list")["total"] == 0
    programs.interop_worker("-c", "1", **LEASE, **env)
    assert sent.get(timeout=30) is None


def test_all_are_retried_with_one_command(programs, redis, three_letters):
    assert set(dead(programs, "retry", "--all")["retried"]) == set(three_letters)

    # The worker finds them no more readable than before.
    until(lambda: redis.zcard(DEAD) == 3, "they are dead letters again")
    assert sorted(redis.hvals(f"{DEAD}_messages")) == sorted(three_letters.values())
