"""What a result says, and for how long: Celery's result_* settings."""

import pytest
from celery import chord
from redis import Redis

from waiting import until


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


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd", "brotli"])
def test_a_compressed_result_is_read_by_python(
    app, programs, redis_server, redis_database, compression
):
    programs.interop_worker(CELERY_RESULT_COMPRESSION=compression, CELERY_TASK_TRACK_STARTED="true")
    text = "a long text " * 1000
    done = app.send_task("bench.echo", (text,))
    failed = app.send_task("bench.fail", ("boom",))

    assert done.get(timeout=30) == text
    with pytest.raises(ValueError, match="boom"):
        failed.get(timeout=30)
    stored = Redis.from_url(redis_server.url(redis_database)).get(f"celery-task-meta-{done.id}")
    assert stored.startswith(b"\0celery-compressed\0")
    assert len(stored) < 1000


def test_a_chord_of_ours_joins_what_python_compressed(app, programs, redis):
    programs.python_worker("-P", "solo", "-Q", "python", CELERY_RESULT_COMPRESSION="zstd")
    by_python = [app.signature("bench.incr", ("n",), queue="python") for _ in range(2)]
    header = [*by_python, app.signature("bench.add", (3, 4))]

    total = chord(header, app.signature("bench.echo"), app=app).apply_async()
    until(lambda: redis.get("n") == "2" and redis.llen("python") == 0, "Python's parts are done")
    # Whoever does the last part calls the body.
    programs.interop_worker(CELERY_RESULT_COMPRESSION="gzip")

    assert total.get(timeout=30) == [1, 2, 7]


def test_a_compression_that_nobody_knows_stops_the_worker_at_its_start(programs):
    worker = programs.interop_worker(CELERY_RESULT_COMPRESSION="lz4")

    until(lambda: not worker.is_running(), "it ended")
    assert "it must be gzip, zlib, bzip2, lzma, xz, zstd or brotli" in worker.output()


def test_failures_may_be_kept_longer_than_other_results(app, programs, redis):
    programs.interop_worker(CELERY_RESULT_EXPIRES="100", CELERY_RESULT_FAILURE_EXPIRES="5000")
    done = app.send_task("bench.add", (1, 1))
    failed = app.send_task("bench.fail", ("boom",))
    done.get(timeout=30)
    failed.get(timeout=30, propagate=False)

    assert 0 < redis.ttl(f"celery-task-meta-{done.id}") <= 100
    assert 4000 < redis.ttl(f"celery-task-meta-{failed.id}") <= 5000
