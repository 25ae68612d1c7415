"""Messages with an ETA wait in Redis: many, exactly, in order, over restarts, at no cost."""

import json
import os
import re
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from chaos.events import begun, read
from messages import envelope, unacked, waiting
from programs import Programs
from servers import RedisServer
from waiting import until

# docs/reliability.md has the figures of 100,000.
MESSAGES = int(os.environ.get("ETA_MESSAGES", "3000"))
# Messages that one worker of a debug build can put away in a second, and run in a second.
PUT_AWAY_PER_SECOND = max(500, MESSAGES // 50)
DUE_PER_SECOND = max(250, MESSAGES // 100)
EXACT_SECONDS = 0.1


@pytest.fixture
def own_redis(folder, request):
    """A Redis that the test may stop."""
    path = folder / f"redis_{request.node.name}"
    path.mkdir()
    server = RedisServer(path)
    sync_each_second(server.client())
    yield server
    server.stop()


def sync_each_second(redis):
    """As Redis does by default: what is measured is not how fast this disk is."""
    redis.config_set("appendfsync", "everysec")


@pytest.fixture
def on_own_redis(own_redis, folder, request):
    path = folder / request.node.name
    path.mkdir()
    programs = Programs(path, own_redis.url())
    yield programs
    programs.end()


def scheduled(redis):
    return redis.zcard("_celery_redis.scheduled")


def resident(process):
    """MiB of memory."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def send(redis, count, first_due):
    """Messages that are due one after the other; the instant of each by its key."""
    dues = {}
    keys = [str(number) for number in range(count)]
    for first in range(0, count, 1000):
        pipeline = redis.pipeline(transaction=False)
        for key in keys[first : first + 1000]:
            # Neither the order of sending nor of the keys is that of the instants.
            place = int(key) * 7919 % count
            due = first_due + timedelta(seconds=place / DUE_PER_SECOND)
            message = envelope("bench.record", key, 0, 0)
            message["headers"]["eta"] = due.isoformat()
            dues[key] = due.timestamp()
            pipeline.lpush("celery", json.dumps(message))
        pipeline.execute()
    return dues


def lateness(redis, dues):
    """Seconds after its instant at which each began, sorted. The ledger's clock has 1 ms."""
    runs = [event for event in read(redis) if event.event == "begun"]
    assert sorted(event.key for event in runs) == sorted(dues)
    return sorted(event.at - dues[event.key] + 0.001 for event in runs)


class Stalls(threading.Thread):
    """What the machine itself takes from everybody: Redis asked every few milliseconds.

    A test machine runs other things too. Whoever is late by no more than Redis or the processor
    was away is not to blame.
    """

    def __init__(self, redis):
        super().__init__(daemon=True)
        self._redis = redis
        self._ends = threading.Event()
        self.longest = 0.0

    def run(self):
        at = time.monotonic()
        while not self._ends.wait(0.005):
            self._redis.set("stall", 1)
            now = time.monotonic()
            self.longest = max(self.longest, now - at - 0.005)
            at = now

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self.join()


def show(what, late, stalls):
    p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
    # docs/reliability.md quotes it (pytest -s shows it).
    print(  # noqa: T201
        f"{what}: {len(late):,} messages, late by p50 {p50 * 1000:.0f} ms,"
        f" p99 {p99 * 1000:.0f} ms, at most {late[-1] * 1000:.0f} ms;"
        f" the machine stalled for up to {stalls.longest * 1000:.0f} ms"
    )


@pytest.mark.timeout(180 + MESSAGES // 200)
def test_many_run_at_their_instant_and_cost_no_memory(own_redis, on_own_redis):
    redis = own_redis.client()
    worker = on_own_redis.interop_worker("-c", "16", "-l", "warn")
    until(lambda: redis.hlen("_celery_redis.processes") == 1, "the worker is ready")
    # What a worker that has been at work has anyway.
    away = 3 + MESSAGES / PUT_AWAY_PER_SECOND
    warm = send(redis, 100, datetime.now(timezone.utc))
    until(lambda: redis.xlen("ledger") == 2 * len(warm), "the worker is warm")
    redis.delete("ledger")
    empty = resident(worker)

    first_due = datetime.now(timezone.utc) + timedelta(seconds=away)
    dues = send(redis, MESSAGES, first_due)
    until(lambda: scheduled(redis) == MESSAGES, "all are put away", away + 60)
    assert datetime.now(timezone.utc) < first_due, "this machine is too slow for the measurement"
    full = resident(worker)

    seconds = away + MESSAGES / DUE_PER_SECOND + 60
    with Stalls(redis) as stalls:
        until(lambda: redis.xlen("ledger") == 2 * MESSAGES, "all have run", seconds)
    until(lambda: unacked(redis) == 0, "all are settled")
    late = lateness(redis, dues)
    show("one worker", late, stalls)
    print(  # noqa: T201
        f"memory of the worker: {empty:.1f} MiB empty, {full:.1f} MiB with {MESSAGES:,} put away"
    )
    assert late[0] >= 0
    assert late[-1] < EXACT_SECONDS + stalls.longest
    assert full - empty < 5
    assert scheduled(redis) == redis.hlen("_celery_redis.scheduled_messages") == waiting(redis) == 0


@pytest.mark.timeout(180 + MESSAGES // 200)
def test_they_outlive_every_worker_and_a_restart_of_redis(own_redis, on_own_redis):
    redis = own_redis.client()
    workers = [on_own_redis.interop_worker("-c", "16", "-l", "warn") for _ in range(2)]
    away = 10 + MESSAGES / PUT_AWAY_PER_SECOND
    first_due = datetime.now(timezone.utc) + timedelta(seconds=away)
    dues = send(redis, MESSAGES, first_due)
    until(lambda: scheduled(redis) == MESSAGES, "all are put away", away)

    for worker in workers:
        worker.kill()
    own_redis.stop()
    own_redis.start_again()
    redis = own_redis.client()
    sync_each_second(redis)
    assert scheduled(redis) == redis.hlen("_celery_redis.scheduled_messages") == MESSAGES
    for _ in range(2):
        on_own_redis.interop_worker("-c", "16", "-l", "warn")
    until(lambda: redis.hlen("_celery_redis.processes") >= 2, "the workers are ready")
    assert datetime.now(timezone.utc) < first_due, "this machine is too slow for the measurement"

    seconds = away + MESSAGES / DUE_PER_SECOND + 60
    with Stalls(redis) as stalls:
        until(lambda: redis.xlen("ledger") >= 2 * MESSAGES, "all have run", seconds)
    late = lateness(redis, dues)
    show("after a restart of all", late, stalls)
    assert late[0] >= 0
    assert late[-1] < EXACT_SECONDS + stalls.longest


def test_what_became_due_while_no_worker_ran_is_done_at_once(app, programs, redis):
    worker = programs.interop_worker("-c", "4")
    due = datetime.now(timezone.utc) + timedelta(seconds=6)
    results = [app.send_task("bench.record", (str(n), 0, 0), eta=due) for n in range(20)]
    until(lambda: scheduled(redis) == 20, "all are put away")
    worker.kill()
    until(lambda: datetime.now(timezone.utc) > due, "they are due")
    assert begun(redis) == []

    programs.interop_worker("-c", "4")

    for result in results:
        result.get(timeout=30)


def test_of_those_due_at_the_same_instant_the_lower_number_is_served_first(app, programs, redis):
    programs.interop_worker("-c", "1")
    due = datetime.now(timezone.utc) + timedelta(seconds=6)
    for priority in (6, 0, 9, 3):
        for number in range(3):
            key = f"{priority}-{number}"
            app.send_task("bench.record", (key, 0, 0), eta=due, priority=priority)
    until(lambda: scheduled(redis) == 12, "all are put away")

    until(lambda: len(begun(redis)) == 12, "all have run")

    order = [event.key[0] for event in begun(redis)]
    assert order == sorted(order)


def test_one_that_is_due_before_all_others_is_not_late(app, programs, redis):
    """Sent last, and to the worker that does not put it away alone."""
    for _ in range(3):
        programs.interop_worker("-c", "2")
    until(lambda: redis.hlen("_celery_redis.processes") == 3, "all are ready")
    dues = {}
    for number, seconds in enumerate([5, 3, 2, 1]):
        due = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        dues[str(number)] = due.timestamp()
        app.send_task("bench.record", (str(number), 0, 0), eta=due)

    with Stalls(redis) as stalls:
        until(lambda: len(begun(redis)) == 4, "all have run")

    late = lateness(redis, dues)
    assert late[0] >= 0
    assert late[-1] < EXACT_SECONDS + stalls.longest


def test_a_message_put_away_is_held_by_nobody(app, programs, redis):
    """No visibility timeout and no lease concerns it."""
    worker = programs.interop_worker("-c", "1")
    due = datetime.now(timezone.utc) + timedelta(hours=1)
    sent = app.send_task("bench.noop", eta=due)
    until(lambda: scheduled(redis) == 1, "it is put away")

    assert unacked(redis) == redis.zcard("unacked_index") == waiting(redis) == 0
    assert redis.keys("_celery_redis.held.*") == []
    [(tag, score)] = redis.zrange("_celery_redis.scheduled", 0, -1, withscores=True)
    assert score == pytest.approx(due.timestamp(), abs=0.001)
    assert sent.id in redis.hget("_celery_redis.scheduled_messages", tag)
    assert worker.is_running()
