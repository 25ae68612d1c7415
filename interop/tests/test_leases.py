"""A dead process's messages come back in seconds, a living one's never."""

import itertools
import json
import signal
import time
from pathlib import Path

import pytest
from billiard.exceptions import TimeLimitExceeded

from chaos.events import begun, ended
from messages import envelope, push, unacked, waiting
from waiting import until

PRIORITIES = [0, 3, 6, 9]
LISTS = dict(zip(PRIORITIES, ["celery", *(f"celery\x06\x16{n}" for n in (3, 6, 9))], strict=True))
SLOTS = 200


def in_order(redis, priority):
    """The messages of one list, the one that is served next first."""
    return [json.loads(message) for message in reversed(redis.lrange(LISTS[priority], 0, -1))]


@pytest.mark.parametrize(
    ("env", "seconds"), [({}, 15), ({"WORKER_LEASE_SECONDS": "1"}, 2)], ids=["default", "one"]
)
def test_what_a_killed_worker_held_is_back_at_the_head_of_its_list(
    app, programs, redis, env, seconds
):
    sent = {
        priority: [
            app.send_task("bench.sleep", (300,), priority=priority).id
            for _ in range(SLOTS // len(PRIORITIES))
        ]
        for priority in PRIORITIES
    }
    killed = programs.interop_worker("-c", str(SLOTS), **env)
    until(lambda: unacked(redis) == SLOTS, "the worker holds all of them")
    for priority in PRIORITIES:
        sent[priority].append(app.send_task("bench.noop", priority=priority).id)
    # It serves another queue: what it reaps stays where it puts it.
    programs.interop_worker("-Q", "other", **env)
    until(lambda: redis.hlen("_celery_redis.processes") == 2, "both are known")

    killed.kill()
    at = time.monotonic()
    until(lambda: waiting(redis) == SLOTS + len(PRIORITIES), "all are back", 30)
    took = time.monotonic() - at

    # docs/reliability.md quotes it (pytest -s shows it).
    print(f"{SLOTS} messages of a killed worker were back after {took:.2f} s")  # noqa: T201
    assert took < seconds
    for priority in PRIORITIES:
        *reclaimed, behind = in_order(redis, priority)
        assert [message["headers"]["id"] for message in [*reclaimed, behind]] == sent[priority]
        for message in reclaimed:
            assert message["headers"]["redelivered"] is True
            assert message["headers"]["x-delivery-count"] == 1
            assert message["properties"]["delivery_info"]["redelivered"] is True
        assert "redelivered" not in behind["headers"]
    assert unacked(redis) == 0
    assert redis.zcard("unacked_index") == 0
    until(lambda: redis.hlen("_celery_redis.processes") == 1, "the dead one is forgotten")
    assert len(redis.keys("_celery_redis.held.*")) == 0
    assert len(redis.keys("_celery_redis.alive.*")) == 1


def test_a_new_process_under_the_same_node_name_does_not_hide_the_dead_one(app, programs, redis):
    lease = {"WORKER_LEASE_SECONDS": "1"}
    killed = programs.interop_worker("-n", "same@host", "-c", "4", **lease)
    results = [app.send_task("bench.sleep", (2,)) for _ in range(4)]
    until(lambda: unacked(redis) == 4, "the worker holds all of them")

    killed.kill()
    at = time.monotonic()
    programs.interop_worker("-n", "same@host", "-c", "4", **lease)

    until(lambda: unacked(redis) == 4 and waiting(redis) == 0, "the new one has them")
    for result in results:
        result.get(timeout=30)
    assert time.monotonic() - at < 6


def test_deliveries_are_counted_over_deaths(app, programs, redis):
    lease = {"WORKER_LEASE_SECONDS": "1"}
    app.send_task("bench.record", ("key", 300, 0))
    programs.interop_worker("-Q", "other", **lease)

    for deaths in (1, 2):
        worker = programs.interop_worker("-c", "1", **lease)
        until(lambda runs=deaths: len(begun(redis)) == runs, "it runs")
        worker.kill()
        until(lambda: waiting(redis) == 1, "it is back")
        assert in_order(redis, 0)[0]["headers"]["x-delivery-count"] == deaths


def pause(worker):
    """Until the kernel says that it is stopped."""
    worker.send(signal.SIGSTOP)
    stat = Path(f"/proc/{worker.pid}/stat")
    until(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", "it stops")


@pytest.fixture
def two(programs, redis):
    """A worker that was paused in its task, and one that took over, with the shortest lease."""
    lease = {"WORKER_LEASE_SECONDS": "1"}

    def start():
        first = programs.interop_worker("-c", "1", **lease)
        until(lambda: len(begun(redis)) == 1, "the first has begun")
        # Before the other is there, which takes a while: the task must not have ended by then.
        pause(first)
        second = programs.interop_worker("-c", "1", **lease)
        until(lambda: len(begun(redis)) == 2, "the second has taken over")
        return first, second

    return start


def refused(worker):
    return "was taken by another worker while it ran here" in worker.output()


def test_who_was_paused_beyond_its_lease_cannot_acknowledge_what_another_runs(app, redis, two):
    result = app.send_task("bench.record", ("key", 4, 0))
    first, second = two()

    first.send(signal.SIGCONT)

    until(lambda: refused(first), "the first one's end is refused")
    # The second one's delivery is untouched.
    assert len(ended(redis)) == 1
    assert unacked(redis) == 1
    assert redis.zcard("unacked_index") == 1
    assert not redis.exists(f"celery-task-meta-{result.id}")
    result.get(timeout=30)
    assert [event.pid for event in ended(redis)] == [first.pid, second.pid]
    until(lambda: unacked(redis) == 0, "the message is settled")
    assert waiting(redis) == 0


def test_who_was_paused_beyond_its_lease_stores_and_sends_nothing(app, redis, two):
    result = app.send_task("bench.record", ("key", 1.5, 1))
    first, second = two()
    result.get(timeout=30)
    key = f"celery-task-meta-{result.id}"
    stored = redis.get(key)

    # It asks for a retry, which the second one has sent and done.
    first.send(signal.SIGCONT)

    until(lambda: refused(first), "the first one's end is refused")
    assert redis.get(key) == stored
    assert waiting(redis) == unacked(redis) == redis.zcard("_celery_redis.scheduled") == 0
    assert [event.pid for event in ended(redis) if event.retries == 1] == [second.pid]


def test_who_was_paused_beyond_its_lease_calls_no_errback(app, programs, redis):
    """Those that a worker runs within itself come after all else, and only if all else was done."""
    lease = {"WORKER_LEASE_SECONDS": "1"}
    errback = app.signature("bench.note", kwargs={"key": "errbacks"})
    failing = app.send_task("bench.hold", ("never",), time_limit=3, link_error=errback)
    first = programs.interop_worker("-c", "1", **lease)
    until(lambda: "received" in first.output(), "it runs")
    pause(first)
    programs.interop_worker("-c", "1", **lease)
    with pytest.raises(TimeLimitExceeded):
        failing.get(timeout=30)
    until(lambda: redis.llen("errbacks") == 1, "the second one has called it")

    first.send(signal.SIGCONT)

    until(lambda: refused(first), "the first one's end is refused")
    assert redis.llen("errbacks") == 1


def test_who_was_paused_beyond_its_lease_works_on_under_a_new_one(app, redis, two):
    first_result = app.send_task("bench.record", ("key", 1.5, 0))
    first, second = two()
    first_result.get(timeout=30)
    first.send(signal.SIGCONT)
    until(lambda: refused(first), "the first one's end is refused")
    # Its renewal finds that out by itself, before or after the refusal.
    silent = "this process was silent for longer than its lease"
    until(lambda: silent in first.output(), "it says that its lease is lost")

    second.send(signal.SIGTERM)
    assert second.wait() == 0

    app.send_task("bench.record", ("another", 0, 0)).get(timeout=30)
    assert ended(redis)[-1].pid == first.pid


def test_a_living_worker_s_messages_stay_with_it_however_many_look(app, programs, redis):
    lease = {"WORKER_LEASE_SECONDS": "1"}
    programs.interop_worker("-c", "20", **lease)
    results = [app.send_task("bench.record", (str(n), 5, 0)) for n in range(20)]
    until(lambda: len(begun(redis)) == 20, "all run")
    for _ in range(2):
        programs.interop_worker("-c", "20", **lease)

    for result in results:
        result.get(timeout=30)

    assert len(begun(redis)) == 20
    assert len({event.pid for event in ended(redis)}) == 1


def test_messages_come_back_in_the_order_of_their_claims(app, programs, redis):
    """Many claims of one process, more than one step of the reaper puts back."""
    lease = {"WORKER_LEASE_SECONDS": "1"}
    killed = programs.interop_worker("-c", "350", **lease)
    ids = []
    for count in itertools.repeat(50, 7):
        ids += [app.send_task("bench.sleep", (300,)).id for _ in range(count)]
        wanted = len(ids)
        until(lambda held=wanted: unacked(redis) == held, "it holds them")
    programs.interop_worker("-Q", "other", **lease)
    until(lambda: redis.hlen("_celery_redis.processes") == 2, "both are known")

    killed.kill()

    until(lambda: waiting(redis) == 350, "all are back")
    assert [message["headers"]["id"] for message in in_order(redis, 0)] == ids


def test_an_outage_longer_than_the_lease_kills_nobody(own_redis, on_own_redis):
    """Every lease has run out when Redis is back; who starts just then must not reap."""
    lease = {"WORKER_LEASE_SECONDS": "1"}
    redis = own_redis.client()
    on_own_redis.interop_worker("-c", "10", **lease)
    for _ in range(10):
        push(redis, envelope("bench.sleep", 300))
    until(lambda: unacked(redis) == 10, "all run")
    tags = set(redis.hkeys("unacked"))

    for outage in range(1, 6):
        own_redis.stop()
        down = time.monotonic()
        until(lambda since=down: time.monotonic() > since + 1.5, "the lease has run out")
        own_redis.start_again()
        on_own_redis.interop_worker("-Q", "other", **lease)

        redis = own_redis.client()
        until(
            lambda known=outage + 1, redis=redis: (
                len(redis.keys("_celery_redis.alive.*")) == known
                or set(redis.hkeys("unacked")) != tags
            ),
            "all have renewed their leases",
        )
        assert set(redis.hkeys("unacked")) == tags
