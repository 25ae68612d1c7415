"""What a result says, and for how long: Celery's result_* settings."""

import pytest


def test_an_extended_result_says_which_call_it_is_of(app, programs):
    programs.interop_worker("-n", "one@interop", CELERY_RESULT_EXTENDED="true")
    result = app.send_task("bench.add", (2,), {"y": 3}, stamped_headers=["tenant"], tenant="acme")

    assert result.get(timeout=30) == 5
    assert (result.name, result.args, result.kwargs) == ("bench.add", [2], {"y": 3})
    assert (result.worker, result.queue, result.retries) == ("one@interop", "celery", 0)
    meta = app.backend.get_task_meta(result.id)
    assert (meta["stamped_headers"], meta["tenant"]) == (["tenant"], "acme")


def test_the_result_of_a_failure_is_extended_too(app, programs):
    programs.interop_worker(CELERY_RESULT_EXTENDED="true")
    failed = app.send_task("bench.fail", ("boom",))

    with pytest.raises(ValueError, match="boom"):
        failed.get(timeout=30)
    assert (failed.name, failed.args) == ("bench.fail", ["boom"])


def test_failures_may_be_kept_longer_than_other_results(app, programs, redis):
    programs.interop_worker(CELERY_RESULT_EXPIRES="100", CELERY_RESULT_FAILURE_EXPIRES="5000")
    done = app.send_task("bench.add", (1, 1))
    failed = app.send_task("bench.fail", ("boom",))
    done.get(timeout=30)
    failed.get(timeout=30, propagate=False)

    assert 0 < redis.ttl(f"celery-task-meta-{done.id}") <= 100
    assert 4000 < redis.ttl(f"celery-task-meta-{failed.id}") <= 5000
