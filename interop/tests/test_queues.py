"""Several queues, several priorities, several workers."""

import pytest

from messages import unacked, waiting
from waiting import until

PRIORITIES = [9, 3, 0, 6, 1, 8, 4]


def test_a_lower_number_is_served_first(app, programs, redis):
    sent = {n: app.send_task("bench.incr", ("order",), priority=n) for n in PRIORITIES}
    assert waiting(redis) == len(PRIORITIES)

    programs.interop_worker("-c", "1")

    places = {n: result.get(timeout=30) for n, result in sent.items()}
    # Redis holds four lists: 0 to 2, 3 to 5, 6 to 8 and 9; within a list the order is that of
    # sending.
    assert sorted(places, key=places.get) == [0, 1, 3, 4, 6, 8, 9]


def test_within_a_priority_the_order_is_that_of_sending(app, programs):
    sent = [app.send_task("bench.incr", ("order",)) for _ in range(50)]

    programs.interop_worker("-c", "1")

    assert [result.get(timeout=30) for result in sent] == list(range(1, 51))


def test_a_worker_serves_every_queue_that_it_is_given_and_no_other(app, programs, redis):
    sent = {
        queue: app.send_task("bench.add", (1, 1), queue=queue) for queue in ["mails", "reports"]
    }
    app.send_task("bench.add", (1, 1))

    programs.interop_worker("-Q", "mails,reports")

    assert sent["mails"].get(timeout=30) == 2
    assert sent["reports"].get(timeout=30) == 2
    assert waiting(redis, "celery") == 1


def test_two_workers_share_a_queue(app, programs, redis):
    programs.interop_worker("-c", "1")
    programs.interop_worker("-c", "1")

    sent = [app.send_task("bench.hold", ("release",)) for _ in range(2)]

    # Each has one slot: two tasks can be out at once only if each took one.
    until(lambda: unacked(redis) == 2, "both workers hold a task")
    redis.set("release", 1)
    for result in sent:
        result.get(timeout=30)


def test_two_workers_do_each_task_once(app, programs, redis):
    programs.interop_worker("-c", "4")
    programs.interop_worker("-c", "4")

    sent = [app.send_task("bench.incr", ("calls",)) for _ in range(500)]

    assert sorted(result.get(timeout=60) for result in sent) == list(range(1, 501))


def test_a_worker_takes_no_more_than_it_has_slots_for(app, programs, redis):
    for _ in range(10):
        app.send_task("bench.hold", ("never",))

    programs.interop_worker("-c", "2")

    until(lambda: unacked(redis) > 0, "the worker holds a task")
    until(lambda: waiting(redis) == 8, "both slots are taken")
    assert unacked(redis) == 2


@pytest.mark.parametrize("slots", ["1", "3"])
def test_a_slot_that_becomes_free_is_used_again(app, programs, slots):
    programs.interop_worker("-c", slots)

    sent = [app.send_task("bench.sleep", (0.05,)) for _ in range(20)]

    for result in sent:
        result.get(timeout=30)
