"""What beat says about itself and its surroundings when something is not as it should be."""

import json
import re
from datetime import datetime, timedelta, timezone

import pytest

from messages import waiting
from waiting import until

LAST_RUNS = "_celery_redis.beat.last_runs"


@pytest.fixture
def beat(programs, redis, tmp_path):
    path = tmp_path / "beat.toml"
    path.write_text(
        "built_in = false\n"
        '[entries.often]\ntask = "t.often"\nschedule = "every 500ms"\n'
        '[entries.daily]\ntask = "t.daily"\nschedule = "0 3 * * *"\n'
    )
    beat = programs.beat("-n", "beat@1", "--file", str(path))
    until(lambda: waiting(redis) >= 2, "it sends")
    return beat


def test_a_queue_that_nobody_consumes_is_told_of_and_its_recovery_too(redis, beat):
    until(lambda: "nothing was taken from queue celery since" in beat.output(), "it is told", 60)

    redis.rpop("celery")

    until(lambda: "queue celery is consumed again" in beat.output(), "its recovery is told")
    assert beat.output().count("nothing was taken") == 1


def test_each_line_of_a_slot_says_how_late_it_is(redis, beat):
    # It is said when Redis has confirmed it, which a reader of the queue may learn earlier.
    lines = until(
        lambda: [line for line in beat.output().splitlines() if "sent often [" in line],
        "the first one is told",
    )

    (identifier, *_) = [json.loads(m)["headers"]["id"] for m in redis.lrange("celery", -1, -1)]
    assert f"sent often [{identifier}] to celery, slot 20" in lines[0]
    assert lines[0].endswith(" ms late")


def test_an_emptied_redis_is_told_of(redis, beat):
    redis.flushdb()

    until(lambda: "Redis has lost the last runs of" in beat.output(), "it is told")
    until(lambda: waiting(redis) >= 2, "beat goes on")
    last_run = datetime.fromisoformat(redis.hget(LAST_RUNS, "daily"))
    assert datetime.now(timezone.utc) - last_run < timedelta(minutes=1)


def test_a_state_that_was_restored_is_told_of_and_no_slot_gets_a_second_id(redis, beat):
    snapshot = redis.hgetall(LAST_RUNS)
    sent = waiting(redis)
    until(lambda: waiting(redis) >= sent + 2, "more is sent")

    redis.hset(LAST_RUNS, mapping=snapshot)

    until(lambda: "an older state was restored" in beat.output(), "it is told")
    sent = waiting(redis)
    until(lambda: waiting(redis) >= sent + 2, "beat goes on")
    slots = {}
    for identifier, slot in re.findall(r"sent often \[(\S+)\] to \S+, slot (\S+),", beat.output()):
        slots.setdefault(slot, set()).add(identifier)
    assert all(len(ids) == 1 for ids in slots.values()), slots
