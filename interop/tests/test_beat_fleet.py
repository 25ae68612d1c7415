"""Several beats on one broker: a dead one is replaced in seconds, a paused one sends nothing."""

import json
import signal
import time
from pathlib import Path

import pytest

from messages import waiting
from waiting import until

LEADER = "_celery_redis.beat.leader"
EVERY_SECOND = """
built_in = false
[entries.often]
task = "t.often"
schedule = "every 1s"
"""


@pytest.fixture
def entries(tmp_path):
    path = tmp_path / "beat.toml"
    path.write_text(EVERY_SECOND)
    return path


def leader(redis):
    holder = redis.get(LEADER)
    return holder and holder.partition(":")[2].partition("/")[0]


def ids(redis):
    return [json.loads(message)["headers"]["id"] for message in redis.lrange("celery", 0, -1)]


def two_beats(programs, redis, entries):
    first = programs.beat("-n", "beat@1", "--file", str(entries))
    until(lambda: leader(redis) == "beat@1", "the first one leads")
    second = programs.beat("-n", "beat@2", "--file", str(entries))
    until(lambda: "ready, waits while beat@1/" in second.output(), "the second one is ready")
    until(lambda: waiting(redis) >= 2, "the first one sends")
    return first, second


def test_another_beat_takes_over_within_ten_seconds_of_a_kill(programs, redis, entries):
    first, second = two_beats(programs, redis, entries)
    check = programs.run_beat("--check", "-n", "beat@2")
    assert (check.status, "ready" in check.stdout) == (0, True)

    first.kill()
    killed = time.monotonic()
    sent = waiting(redis)
    until(lambda: waiting(redis) > sent, "the second one sends")

    assert time.monotonic() - killed < 10
    assert leader(redis) == "beat@2"
    # It says so when it has sent what was due.
    until(lambda: "beat@2: leads, term 2" in second.output(), "it says so")


def test_a_leader_that_was_paused_sends_nothing_when_it_wakes_up(programs, redis, entries):
    first, second = two_beats(programs, redis, entries)

    first.send(signal.SIGSTOP)
    until(lambda: leader(redis) == "beat@2", "the second one leads")
    sent = waiting(redis)
    until(lambda: waiting(redis) > sent + 2, "and sends")
    first.send(signal.SIGCONT)
    until(lambda: "ready, waits while beat@2/" in first.output(), "the first one learns of it")
    sent = waiting(redis)
    until(lambda: waiting(redis) > sent + 2, "the second one goes on")

    assert len(set(ids(redis))) == len(ids(redis)), "a slot was sent twice"
    assert leader(redis) == "beat@2"
    assert second.is_running()


def test_a_beat_that_ends_in_order_is_followed_at_once(programs, redis, entries):
    first, _ = two_beats(programs, redis, entries)

    first.send(signal.SIGTERM)
    assert first.wait() == 0
    until(lambda: leader(redis) == "beat@2", "the second one leads", 5)


def test_a_beat_without_redis_ends_with_the_reason(on_own_redis, own_redis, tmp_path: Path):
    beat = on_own_redis.beat("-n", "beat@1", BEAT_MAX_SILENCE="10")
    until(lambda: "leads" in beat.output(), "it leads")

    own_redis.stop()

    assert beat.wait(60) == 69
    assert "no tick for 10 s" in beat.output()
