"""Entries in a file: read at start, read again when they change, never with a mistake."""

import json
import signal
from datetime import datetime, timedelta, timezone

import pytest

from messages import waiting
from waiting import until

ENTRIES = "_celery_redis.beat.entries"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "beat.toml"


def entry(name, schedule="every 100ms", **more):
    lines = [f"[entries.{name}]", f'task = "t.{name}"', f'schedule = "{schedule}"']
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in more.items()), ""])


def tasks(redis, queue="celery"):
    return [json.loads(message)["headers"]["task"] for message in redis.lrange(queue, 0, -1)]


def test_celery_reads_what_an_entry_of_a_file_says(app, programs, redis, file):
    file.write_text(
        entry("full", args='[1, "é"]', kwargs="{ x = [true] }", expires='"1h"', priority=3)
    )
    programs.beat(BEAT_FILE=str(file))
    until(lambda: redis.llen("celery\x06\x163"), "it is sent")

    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        message = queue.get(timeout=10)
        args, kwargs, _ = message.payload
        assert (args, kwargs) == ([1, "é"], {"x": [True]})
        expires = datetime.fromisoformat(message.headers["expires"])
        assert timedelta(minutes=59) < expires - datetime.now(timezone.utc) <= timedelta(hours=1)
        queue.close()


def test_a_changed_file_counts_without_a_restart_and_one_with_a_mistake_does_not(
    programs, redis, file
):
    file.write_text("built_in = false\n" + entry("a"))
    beat = programs.beat("--file", str(file))
    until(lambda: "t.a" in tasks(redis), "a is sent")

    file.write_text("built_in = false\n" + entry("b"))
    until(lambda: "t.b" in tasks(redis), "b is sent")
    assert redis.hkeys(ENTRIES) == ["b"]

    file.write_text("built_in = false\n" + entry("c", schedule="every 5 minutes"))
    until(lambda: f"beat file {file}:4:12: schedule" in beat.output(), "the mistake is told")
    file.unlink()
    until(lambda: f"beat file {file} cannot be read" in beat.output(), "its absence is told")
    sent = waiting(redis)
    until(lambda: waiting(redis) > sent, "b is sent as before")
    assert redis.hkeys(ENTRIES) == ["b"]


def test_hup_loads_the_file_again(programs, redis, file):
    file.write_text(entry("a"))
    beat = programs.beat("--file", str(file))
    until(lambda: "t.a" in tasks(redis), "a is sent")

    beat.send(signal.SIGHUP)

    until(lambda: "6 entries, none changed" in beat.output(), "it was read")
    assert beat.is_running()


def test_a_mistake_stops_beat_before_it_begins(programs, redis, file):
    file.write_text(entry("a", schedule="0 25 * * *"))

    for arguments in [(), ("--validate",), ("--list",)]:
        done = programs.run_beat("--file", str(file), *arguments)
        assert done.status == 78
        assert f'{file}:3:12: schedule "0 25 * * *", column 3: hour "25"' in done.stderr

    file.write_text(entry("a", schedule="0 5 * * *"))
    done = programs.run_beat("--file", str(file), "--validate", CELERY_BROKER_URL="redis://nowhere")
    assert (done.status, done.stdout) == (0, f"{file}: 6 entries\n")
    assert redis.dbsize() == 0


def test_a_one_off_is_sent_once(programs, redis, file):
    at = (datetime.now(timezone.utc) + timedelta(seconds=3)).isoformat()
    file.write_text("built_in = false\n" + entry("once", f"at {at}") + entry("often"))

    first = programs.beat("-n", "beat@1", "--file", str(file))
    until(lambda: "t.once" in tasks(redis), "it is sent")
    first.kill()
    programs.beat("-n", "beat@2", "--file", str(file))
    sent = waiting(redis)
    until(lambda: waiting(redis) > sent + 2, "another beat sends")

    assert tasks(redis).count("t.once") == 1
    listed = programs.run_beat("--list", "--json", "--file", str(file)).json()["entries"]
    assert {entry["name"]: entry["next_run"] for entry in listed}["once"] is None
