"""Retries as a Python caller sees them, and the message that a retried task becomes."""

import json
from itertools import pairwise

import pytest
from celery import chain, chord
from celery.exceptions import MaxRetriesExceededError

from messages import envelope, idle, push, unacked, waiting
from waiting import until


@pytest.fixture
def worker(programs):
    return programs.interop_worker("-c", "2")


def runs(redis, event="begun"):
    """Redis's seconds at which tasks have begun."""
    return [
        int(entry.split("-")[0]) / 1000
        for entry, fields in redis.xrange("ledger")
        if fields["event"] == event
    ]


def test_a_chosen_error_is_retried_by_itself(app, worker, redis):
    with pytest.raises(ConnectionError, match="as asked"):
        app.send_task("bench.autoretry", ("ConnectionError",)).get(timeout=30)

    assert len(runs(redis)) == 3


def test_another_error_is_not(app, worker, redis):
    with pytest.raises(ValueError, match="as asked"):
        app.send_task("bench.autoretry", ("ValueError",)).get(timeout=30)

    assert len(runs(redis)) == 1


def test_delays_between_retries_double(app, worker, redis):
    with pytest.raises(OSError, match="as asked"):
        app.send_task("bench.backoff", ("key",)).get(timeout=60)

    first, second = (later - earlier for earlier, later in pairwise(runs(redis)))
    assert 1 <= first < 2 <= second


def test_a_retry_without_a_reason_ends_with_celerys_error(app, worker):
    result = app.send_task("bench.bare_retry", (0,))

    with pytest.raises(MaxRetriesExceededError) as raised:
        result.get(timeout=30)

    expected = f"Can't retry bench.bare_retry[{result.id}] args:(0,) kwargs:{{}}"
    assert str(raised.value) == expected


def test_what_is_shown_until_the_retry_is_what_python_shows(app, worker, redis):
    with_error = app.send_task("bench.retry", (1, 3600))
    without = app.send_task("bench.bare_retry", (0.5e9,))

    until(lambda: with_error.state == without.state == "RETRY", "both wait")

    assert isinstance(with_error.info, KeyError)
    assert with_error.traceback.endswith("Retry: Retry in 3600s: KeyError('again')\n")
    meta = json.loads(redis.get(f"celery-task-meta-{with_error.id}"))
    assert meta["children"] == [[[with_error.id, None], None]]
    meta = json.loads(redis.get(f"celery-task-meta-{without.id}"))
    assert meta["result"] is None
    assert meta["traceback"].endswith("Retry: Retry in 500000000s\n")
    assert meta["date_done"] is None
    until(lambda: unacked(redis) == 0, "the first runs are settled")
    with_error.forget()
    without.forget()


def test_a_retry_may_have_other_arguments(app, worker):
    assert app.send_task("bench.changed_retry", (3,)).get(timeout=30) == 12


def test_a_retry_may_be_at_an_instant(app, worker):
    assert app.send_task("bench.later_retry", (0.5,)).get(timeout=30) >= 0


def test_attributes_of_the_task_macro_are_obeyed(app, worker, redis):
    assert app.send_task("bench.attributes", (False,)).get(timeout=30) == 0
    assert called(redis) == ["succeeded", "after success"]
    redis.delete("ledger")

    with pytest.raises(Exception, match="as asked"):
        app.send_task("bench.attributes", (True,)).get(timeout=30)
    assert called(redis) == ["retried", "failed", "after failure"]


def called(redis):
    """The hooks that were called, in their order."""
    return [fields["event"] for _, fields in redis.xrange("ledger")]


def test_a_call_that_cannot_be_made_is_a_failure_to_its_hooks(app, worker, redis):
    with pytest.raises(TypeError):
        app.send_task("bench.attributes", (1, 2, 3)).get(timeout=30)

    assert called(redis) == ["after failure"]


def test_what_a_hook_does_changes_nothing(app, worker):
    assert app.send_task("bench.loud_hooks").get(timeout=30) == 1

    until(lambda: worker.output().count("a hook of bench.loud_hooks[") == 2, "the log says so")


def test_a_chain_goes_on_after_a_retry(app, worker):
    signature = app.signature
    steps = chain(signature("bench.retry", (1, 0.1)), signature("bench.add", (10,)), app=app)
    assert steps.apply_async().get(timeout=30) == 11


def test_a_chord_waits_for_the_retries_of_its_parts(app, worker):
    header = [app.signature("bench.retry", (number, 0.1)) for number in range(3)]
    assert chord(header, app=app)(app.signature("bench.echo")).get(timeout=30) == [0, 1, 2]


def test_the_message_of_a_retry_is_the_one_that_python_sends(app, programs, redis):
    message = envelope("bench.retry", 1, 3600)
    message["headers"] |= {"shadow": "shown", "ignore_result": None, "tenant": "acme"}
    message["headers"] |= {"timelimit": [30, 20], "stamped_headers": ["s"], "stamps": {"s": 1}}
    message["properties"]["priority"] = 3
    programs.interop_worker()
    push(redis, message, "celery\x06\x163")

    until(lambda: redis.zcard("_celery_redis.scheduled") == 1, "it waits for its retry")
    (waits,) = redis.hvals("_celery_redis.scheduled_messages")
    again = json.loads(waits[waits.index("{") :])

    headers = message["headers"] | {
        "retries": 1,
        "eta": again["headers"]["eta"],
        "parent_id": message["headers"]["id"],
        "ignore_result": False,
    }
    assert again["headers"] == headers
    assert list(again["headers"]) == list(message["headers"])
    assert again["body"] == message["body"]
    properties = {"delivery_tag", "origin"}
    kept = {name: value for name, value in again["properties"].items() if name not in properties}
    assert kept == {
        name: value for name, value in message["properties"].items() if name not in properties
    }
    assert waiting(redis) == 0


def test_a_task_whose_results_are_dropped_says_so_itself(app, worker, redis):
    quiet = app.send_task("bench.quiet", ignore_result=None)
    asked = app.send_task("bench.quiet", ignore_result=False)

    assert asked.get(timeout=30) == 1
    until(lambda: idle(redis), "both are settled")
    assert not redis.exists(f"celery-task-meta-{quiet.id}")


def test_failures_may_be_stored_all_the_same(app, programs):
    programs.interop_worker(CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED="true")

    with pytest.raises(ValueError, match="loud"):
        app.send_task("bench.quiet", ("loud",), ignore_result=None).get(timeout=30)


def test_a_task_shows_that_it_has_begun(app, worker):
    result = app.send_task("bench.tracked", (2,))

    until(lambda: result.state == "STARTED", "it has begun")
    assert result.info["hostname"].endswith("@interop")
    assert result.get(timeout=30) == 2


def test_a_task_is_logged_under_its_shadow(app, worker):
    app.send_task("bench.noop", shadow="the shown name").get(timeout=30)

    until(lambda: "the shown name[" in worker.output(), "it is logged")
