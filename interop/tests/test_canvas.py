"""Chains, groups, chords and errbacks: what a caller sees is what a Python worker shows."""

import gc
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from celery import chain, chord, group, signature
from celery.exceptions import ChordError, TimeoutError
from celery.result import GroupResult

from messages import unacked, waiting
from waiting import until

FLEETS = ["python", "ours", "both"]
CELERY_5_3 = Path(sys.prefix).with_name("celery-5.3")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def task(name, *args, **options):
    return signature(f"bench.{name}", args=args, **options)


def add(*args, **options):
    return task("add", *args, **options)


def as_list(**options):
    """Its argument, whatever it is."""
    return signature("celery.accumulate", kwargs={"index": 0}, **options)


CANVASES = {
    "chain": lambda: chain(add(1, 2), add(3), add(4)),
    "chain of immutables": lambda: chain(add(1, 2), add(3, 3, immutable=True), add(4)),
    "chain in a chain": lambda: chain(add(1, 2), chain(add(3), chain(add(4), add(5))), add(6)),
    "group": lambda: group(add(i, i) for i in range(4)),
    "group in a group": lambda: group(group(add(1, 1), add(2, 2)), add(3, 3)),
    "chain that ends in a group": lambda: chain(add(1, 1), group(add(2), add(3))),
    "chain of two groups": lambda: chain(group(add(1, 1), add(2, 2)), group(as_list(), as_list())),
    "chord": lambda: chord([add(i, i) for i in range(4)], as_list()),
    "chord of one": lambda: chord([add(1, 1)], as_list()),
    "chord of none": lambda: chain(group([]), add(1, 1)),
    "chord in a chain": lambda: chain(add(1, 1), group(add(2), add(3)), as_list(), as_list()),
    "chord of chains": lambda: chord(
        [chain(add(1, 1), add(1)), chain(add(2, 2), add(2), add(2))], as_list()
    ),
    "chord of groups": lambda: chord(
        [group(add(1, 1), add(2, 2)), chain(add(3, 3), group(add(1), add(2)))], as_list()
    ),
    "chord of chords": lambda: chord(
        [chord([add(1, 1), add(2, 2)], as_list()), chord([add(3, 3)], as_list())], as_list()
    ),
    "chord whose body is a chain": lambda: chord([add(1, 1), add(2, 2)], as_list() | as_list()),
    "chord whose body is a group": lambda: chord(
        [add(1, 1), add(2, 2)], group(as_list(), as_list())
    ),
    "chord whose body is a chord": lambda: chord(
        [add(1, 1), add(2, 2)], chord([as_list(), as_list()], as_list())
    ),
    "chain of chords": lambda: chain(
        group(add(1, 1), add(2, 2)), as_list(), group(as_list(), as_list()), as_list()
    ),
    "chain that fails": lambda: chain(add(1, 1), task("fail", "no", immutable=True), add(1)),
    "chain that fails before a chord": lambda: chain(
        task("fail", "no"), group(add(1), add(2)), as_list()
    ),
    "group that fails": lambda: group(add(1, 1), task("fail", "no")),
    "chord whose header fails": lambda: chord([add(1, 1), task("fail", "no")], as_list()),
    "chord whose chain fails": lambda: chord(
        [add(1, 1), chain(task("fail", "no"), add(1))], as_list()
    ),
    "chord whose body fails": lambda: chord([add(1, 1)], task("fail", "no", immutable=True)),
    "chord with a chain after it, and its header fails": lambda: chain(
        group(add(1, 1), task("fail", "no")), as_list(), as_list()
    ),
    "chord whose body is a group, and its header fails": lambda: chord(
        [add(1, 1), task("fail", "no")], group(as_list(), as_list())
    ),
    "starmap": lambda: signature(
        "celery.starmap", kwargs={"task": add(), "it": [(1, 2), (3, 4)]}, immutable=True
    ),
    "map": lambda: signature(
        "celery.map", kwargs={"task": as_list(), "it": [1, [2]]}, immutable=True
    ),
    "chunks": lambda: signature(
        "celery.chunks",
        kwargs={"task": add(), "it": [(1, 2), (3, 4), (5, 6)], "n": 2},
        immutable=True,
    ),
    "a chord as a task": lambda: signature(
        "celery.chord", kwargs={"header": [add(1, 1), add(2, 2)], "body": as_list()}
    ),
    "cleaning up": lambda: signature("celery.backend_cleanup"),
    "replaced by a task": lambda: chain(task("replace", add(1, 1)), add(1)),
    "replaced by a chain": lambda: chain(task("replace", chain(add(1, 1), add(2))), add(1)),
    "replaced by a group": lambda: chain(task("replace", group(add(1, 1), add(2, 2))), as_list()),
    "replaced by a chord in a chord": lambda: chord(
        [task("replace", chord([add(1, 1), add(2, 2)], as_list())), add(3, 3)], as_list()
    ),
    "replaced by a failure": lambda: chain(task("replace", task("fail", "no")), add(1)),
    "spawning a chain": lambda: task("spawn", chain(add(1, 1), add(1))),
    "spawning a group": lambda: task("spawn", group(add(1, 1), add(2, 2))),
    "spawning a chord": lambda: task("spawn", chord([add(1, 1), add(2, 2)], as_list())),
}


@pytest.fixture(autouse=True)
def _results_go_before_their_connection(app):
    """A result that is thrown away says so on its app's connection."""
    yield
    gc.collect()


@pytest.fixture
def fleet(programs, request):
    """Python's workers, ours, or both on one queue."""

    def start(kind):
        started = []
        if kind != "python":
            started.append(programs.interop_worker("-c", "4"))
        if kind != "ours":
            options = ["-P", "threads", "-c", "4", "-n", "python@interop"]
            worker = programs.python_worker(*options, module="canvas_worker")
            until(lambda: "ready." in worker.output(), "Celery's worker is ready")
            started.append(worker)

        def end():
            for process in started:
                process.kill()

        return end

    return start


def anonymous(value):
    """Ids are fresh in each run."""
    return json.loads(UUID.sub("<id>", json.dumps(value, default=str)))


def node(result):
    """What a caller can see of a result: its own, its parents', its members'."""
    if result is None:
        return None
    if isinstance(result, GroupResult):
        return {"members": [node(member) for member in result], "parent": node(result.parent)}
    try:
        result.get(timeout=5, propagate=False)
    except TimeoutError:
        return "nothing in 5 s"
    meta = result.backend.get_task_meta(result.id)
    sent = (child for child in meta["children"] or [] if not isinstance(child, list))
    return {
        "state": meta["status"],
        "result": repr(meta["result"]),
        "children": [child.as_tuple() for child in sent],
        "parent": node(result.parent),
    }


def test_a_caller_sees_what_python_shows(app, fleet):
    shown = {}
    for kind in FLEETS:
        end = fleet(kind)
        shown[kind] = {
            name: anonymous(node(make().apply_async())) for name, make in CANVASES.items()
        }
        end()
    for kind in FLEETS[1:]:
        for name in CANVASES:
            assert shown[kind][name] == shown["python"][name], f"{name}, by {kind}"


def test_no_record_of_a_chord_outlives_it(app, programs, redis):
    programs.interop_worker("-c", "4")
    chords = [chord([add(i, i) for i in range(10)], as_list()).apply_async() for _ in range(20)]
    for result in chords:
        assert result.get(timeout=20) == [2 * i for i in range(10)]

    left = redis.keys("celery-taskset-meta-*")
    # What is left says for a while that the body was sent, so that a late part does nothing.
    assert {key.rsplit(".", 1)[-1] for key in left} == {"c"}
    assert all(0 < redis.ttl(key) <= 300 for key in left)


@pytest.mark.parametrize("env", [{}, {"CELERY_TASK_ACKS_LATE": "false"}], ids=["late", "early"])
@pytest.mark.parametrize("servers", ["one", "two"])
def test_broker_and_result_backend_may_be_two(
    app, programs, redis_server, redis_databases, env, servers
):
    if servers == "two":
        app.conf.result_backend = redis_server.url(next(redis_databases))
        env = env | {"CELERY_RESULT_BACKEND": app.conf.result_backend}
    programs.interop_worker("-c", "4", **env)

    chords = chain(group(add(1, 1), add(2, 2)), as_list(), group(as_list(), as_list()), as_list())

    assert chords.apply_async().get(timeout=20) == [[2, 4], [2, 4]]
    # Which of the two is told first, the part's error or the body's, the client decides.
    with pytest.raises((ValueError, ChordError), match="no"):
        chord([add(1, 1), task("fail", "no")], as_list()).apply_async().get(timeout=20)


def test_a_chord_survives_the_death_of_its_workers(app, programs, redis):
    """Whoever dies between a part's end and the body has it done again by the next."""
    lease = {"WORKER_LEASE_SECONDS": "1", "WORKER_MAX_DELIVERIES": "100"}
    worker = programs.interop_worker("-c", "8", **lease)
    part = chain(add(1, 1), task("sleep", 0.05, immutable=True))
    sizes = range(1, 25)
    results = [chord([part.clone()] * size, as_list()).apply_async() for size in sizes]
    # Of two results for each part and one for each body.
    for stored in range(60, 600, 75):
        until(lambda count=stored: len(redis.keys("celery-task-meta-*")) >= count, "it goes on")
        worker.kill()
        worker = programs.interop_worker("-c", "8", **lease)
    for size, result in zip(sizes, results, strict=True):
        assert result.get(timeout=60) == [0.05] * size


def test_a_body_that_a_dead_worker_had_claimed_is_called(app, programs, redis):
    result = chord([add(1, 1), add(2, 2)], as_list()).apply_async()
    # As a worker leaves it that dies after its claim, which runs out after a while.
    redis.set(f"celery-taskset-meta-{result.parent.id}.c", "claim-of-the-dead", ex=2)
    programs.interop_worker("-c", "2")

    assert result.get(timeout=20) == [2, 4]


def test_a_part_that_comes_back_after_its_chord_is_over_does_nothing(app, programs, redis):
    body = signature("bench.incr", kwargs={"key": "calls"}, immutable=True)
    result = chord([add(1, 1), add(2, 2)], body).apply_async()
    copies = redis.lrange("celery", 0, -1)
    worker = programs.interop_worker("-c", "2")
    assert result.get(timeout=20) == 1

    redis.lpush("celery", *copies)
    until(lambda: worker.output().count("settled") == 5, "the copies have run")

    assert redis.get("calls") == "1"
    over = f"celery-taskset-meta-{result.parent.id}.c"
    assert redis.keys("celery-taskset-meta-*") == [over]


def test_what_a_part_raised_is_there_before_its_chord_fails(app, programs, redis):
    """Python's `get` looks at the parts first and then at the body: both at once, and it is chance
    which failure the caller meets."""
    programs.interop_worker("-c", "2")
    with redis.monitor() as commands:
        body = chord([add(1, 1), task("fail", "no")], as_list()).apply_async()
        stored = {}
        for command in commands.listen():
            if command["command"].startswith(("SETEX", "SET ")) and "FAILURE" in command["command"]:
                stored[command["command"].split()[1]] = command["time"]
            if f"celery-task-meta-{body.id}" in stored:
                break
    failed = stored[f"celery-task-meta-{body.parent.results[1].id}"]
    assert stored[f"celery-task-meta-{body.id}"] - failed > 0.04


def test_errbacks_are_called_as_celery_calls_them(app, programs, redis):
    programs.interop_worker("-c", "2")
    errbacks = [task("incr"), signature("bench.note", kwargs={"key": "errbacks"})]
    failed = task("fail", "no").apply_async(link_error=errbacks)
    with pytest.raises(ValueError, match="no"):
        failed.get(timeout=20)

    until(lambda: redis.get(failed.id) == "1", "the one that takes the id is called with it")
    request, exception, traceback = json.loads(
        until(lambda: redis.lpop("errbacks"), "the one that takes all is called with it")
    )
    assert request["id"] == failed.id
    assert request["task"] == "bench.fail"
    assert exception == {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}
    assert "ValueError: no" in traceback


COUNTING = signature("bench.incr", kwargs={"key": "errbacks"}, immutable=True)


def errback_of_nested_chords():
    inner = chord([add(1, 1), task("fail", "no")], as_list())
    outer = chord(group([add(3, 3), inner]), as_list())
    outer.link_error(COUNTING)
    return outer


def errback_of_a_task_and_of_its_group():
    body = group([as_list(link_error=[COUNTING]), as_list()])
    body.options["link_error"] = [COUNTING]
    return chord([add(1, 1), task("fail", "no")], body)


@pytest.mark.parametrize("kind", FLEETS[:2])
@pytest.mark.parametrize(
    ("canvas", "calls"),
    [(errback_of_nested_chords, "1"), (errback_of_a_task_and_of_its_group, "2")],
)
def test_an_errback_that_is_linked_twice_is_called_once(app, fleet, redis, kind, canvas, calls):
    """Once for each task that fails: by Celery, and by ours."""
    fleet(kind)
    canvas().apply_async()

    until(lambda: redis.get("errbacks"), "it is called")
    until(lambda: unacked(redis) == 0 and waiting(redis) == 0, "nothing is left to do")
    assert redis.get("errbacks") == calls


def test_an_errback_finds_the_failure_stored(app, programs, redis):
    programs.interop_worker("-c", "1")
    note = signature("bench.note", kwargs={"key": "errbacks"})
    order = []
    with redis.monitor() as commands:
        failed = task("fail", "no").apply_async(link_error=note)
        for command in (line["command"] for line in commands.listen()):
            if command.startswith(f"SET celery-task-meta-{failed.id}"):
                order.append("failure")
            elif command.startswith("RPUSH errbacks"):
                order.append("errback")
                break
    assert order == ["failure", "errback"]


def test_an_unregistered_errback_goes_to_whoever_knows_it(app, programs, redis):
    programs.interop_worker("-c", "2")
    errback = signature("elsewhere.errback", queue="elsewhere")
    failed = task("fail", "no").apply_async(link_error=errback)
    with pytest.raises(ValueError, match="no"):
        failed.get(timeout=20)

    message = json.loads(until(lambda: redis.rpop("elsewhere"), "it lies in its queue"))
    assert message["headers"]["task"] == "elsewhere.errback"
    assert message["headers"]["argsrepr"] == f"('{failed.id}',)"
    assert message["headers"]["parent_id"] == failed.id


def test_a_malformed_callback_fails_its_task(app, programs):
    programs.interop_worker("-c", "2")
    result = add(1, 1).apply_async(link={"args": []})
    with pytest.raises(Exception, match="an object without a task is no signature"):
        result.get(timeout=20)


def test_calls_without_a_queue_are_routed(app, programs, redis):
    routes = json.dumps({"elsewhere.*": "elsewhere", "bench.fail": {"queue": "failures"}})
    programs.interop_worker("-c", "2", CELERY_TASK_ROUTES=routes)
    chain(add(1, 1), signature("elsewhere.task")).apply_async()
    chain(add(1, 1), task("fail")).apply_async()

    until(lambda: redis.llen("elsewhere") == 1, "the unknown task is in its queue")
    until(lambda: redis.llen("failures") == 1, "the known one too")


@pytest.mark.parametrize("kind", ["theirs", "ours", "both"])
def test_producers_and_workers_of_celery_5_3(programs, redis, kind):
    """Its chords know nothing of claims, and its parts say nothing of who has returned."""
    old = {"PYTHONPATH": f"{CELERY_5_3}:{Path(__file__).parent}"}
    if kind != "theirs":
        programs.interop_worker("-c", "2")
    if kind != "ours":
        worker = programs.python_worker("-P", "solo", module="old_celery", **old)
        until(lambda: "ready." in worker.output(), "Celery's worker is ready")

    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("old_celery.py")],
        env=programs.env | old,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert json.loads(done.stdout) == {
        "version": "5.3.6",
        "chain": 10,
        "group": [2, 4],
        "chord": [2 * i for i in range(20)],
        "chord of chains": [2 * i + 1 for i in range(5)],
        "chord of groups": [4, 2, 6],
        "chord in a chain": [3, 4],
        "chord whose header fails": "failed",
    }
