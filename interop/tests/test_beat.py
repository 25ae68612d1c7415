"""beat end to end: its messages arrive once, a worker does them, a missed slot is caught up."""

import json
import signal
from datetime import datetime, timedelta, timezone

import pytest

from jwt_auth.models import JWTKeyPair, JWTScope
from messages import waiting
from waiting import until

LAST_RUNS = "_celery_redis.beat.last_runs"
TASKS = {
    "jwt_auth.tasks.cleanup_expired_tokens",
    "jwt_auth.tasks.rotate_jwt_keypairs",
    "jwt_auth.tasks.cleanup_inactive_keypairs",
    "jwt_auth.tasks.generate_jwt_health_report",
    "jwt_auth.tasks.initialize_jwt_scopes",
}


@pytest.fixture
def missed(programs, redis):
    """A beat has run here and has been down for 40 days, in which each entry was due."""
    stop(first_beat(programs, redis))
    overdue(redis)


def first_beat(programs, redis):
    beat = programs.beat()
    until(lambda: redis.hlen(LAST_RUNS) == len(TASKS), "beat knows its entries")
    return beat


def overdue(redis):
    last = (datetime.now(timezone.utc) - timedelta(days=40)).replace(microsecond=0)
    for entry in redis.hkeys(LAST_RUNS):
        redis.hset(LAST_RUNS, entry, last.isoformat())


def stop(process):
    process.send(signal.SIGTERM)
    assert process.wait() == 0


def sent(redis):
    return [json.loads(message) for message in redis.lrange("celery", 0, -1)]


def test_it_lists_the_five_entries(programs):
    done = programs.run_beat("--list", "--json")

    assert done.status == 0
    entries = {entry["task"]: entry["schedule"] for entry in done.json()["entries"]}
    assert entries.keys() == TASKS


def test_a_new_beat_sends_nothing_before_its_time(programs, redis):
    stop(first_beat(programs, redis))

    # Unless a slot falls into these seconds: then it is that one, and no more.
    assert waiting(redis) <= 1


def test_a_missed_slot_is_caught_up_once(programs, redis, missed):
    programs.beat()

    until(lambda: waiting(redis) >= len(TASKS), "every entry is sent")
    assert sorted(message["headers"]["task"] for message in sent(redis)) == sorted(TASKS)


def test_a_slot_is_not_sent_again_after_a_restart(programs, redis, missed):
    first = programs.beat()
    until(lambda: waiting(redis) >= len(TASKS), "every entry is sent")
    first.kill()

    second = programs.beat("-n", "beat@second")
    until(lambda: redis.exists("_celery_redis.beat.tick.beat@second"), "the second one runs")
    stop(second)

    assert waiting(redis) == len(TASKS)


def test_two_beats_send_each_slot_once(programs, redis, missed):
    beats = [programs.beat("-n", f"beat@{n}") for n in range(2)]
    until(lambda: waiting(redis) >= len(TASKS), "every entry is sent")
    for n in range(2):
        until(lambda n=n: redis.exists(f"_celery_redis.beat.tick.beat@{n}"), "both run")
    for beat in beats:
        stop(beat)

    assert waiting(redis) == len(TASKS)


def test_its_messages_go_to_the_queue_that_it_is_given(programs, redis, missed):
    programs.beat("--queue", "jwt")

    until(lambda: waiting(redis, "jwt") == len(TASKS), "every entry is sent")
    assert waiting(redis, "celery") == 0


def test_celery_reads_its_messages_as_it_reads_those_of_its_own_beat(app, programs, redis, missed):
    programs.beat()
    until(lambda: waiting(redis) >= len(TASKS), "every entry is sent")

    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        for _ in TASKS:
            message = queue.get(timeout=10)
            args, kwargs, embed = message.payload
            assert message.headers["task"] in TASKS
            assert message.headers["celery_beat_task"] is True
            assert message.headers["id"] == message.properties["correlation_id"]
            assert (args, kwargs) == ([], {})
            assert embed.keys() == {"callbacks", "errbacks", "chain", "chord"}
            message.ack()
        queue.close()
    assert redis.hlen("unacked") == 0


def test_a_worker_does_what_beat_sends(site, redis):
    stop(first_beat(site, redis))
    overdue(redis)
    site.worker()

    site.beat()

    until(lambda: JWTScope.objects.count() == 4, "the scopes are there", 60)
    until(lambda: JWTKeyPair.objects.filter(is_active=True).count() == 1, "and a key pair", 60)
    until(lambda: waiting(redis) == 0 and redis.hlen("unacked") == 0, "all of them are done")


def test_the_check_tells_whether_beat_lives(programs, redis):
    assert programs.run_beat("--check").status == 1

    beat = first_beat(programs, redis)
    until(lambda: programs.run_beat("--check").status == 0, "the check finds it")
    stop(beat)

    assert programs.run_beat("--check").status == 1
