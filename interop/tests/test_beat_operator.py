"""`jwt_manage beat`: what an operator sees of beat, and changes while it runs."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from celery.schedules import crontab, schedule
from redbeat import RedBeatSchedulerEntry

from messages import waiting
from waiting import until

ENTRIES = """
built_in = false
[entries.often]
task = "t.often"
schedule = "every 100ms"
[entries.nightly]
task = "t.nightly"
args = [7]
schedule = "0 3 * * *"
queue = "night"
[entries.off]
task = "t.off"
schedule = "every 100ms"
enabled = false
"""


@pytest.fixture
def beat(programs, redis, tmp_path):
    path = tmp_path / "beat.toml"
    path.write_text(ENTRIES)
    beat = programs.beat("-n", "beat@1", "--file", str(path))
    until(lambda: redis.hlen("_celery_redis.beat.entries") == 3, "the entries are known")
    return beat


def listed(programs):
    listing = programs.jwt_manage("beat", "list", "--json").json()
    return listing, {entry["name"]: entry for entry in listing["entries"]}


def tasks(redis, queue="celery"):
    return [json.loads(message)["headers"]["task"] for message in redis.lrange(queue, 0, -1)]


def sends_on(redis, task="t.often"):
    sent = tasks(redis).count(task)
    until(lambda: tasks(redis).count(task) > sent + 2, f"{task} is sent")


def test_the_list_says_what_the_leader_sends_and_how_late(programs, redis, beat):
    sends_on(redis)

    listing, entries = listed(programs)

    assert listing["leader"].startswith("beat@1/")
    assert listing["term"] == 1
    (only,) = listing["beats"]
    assert (only["node"], only["leads"]) == ("beat@1", True)
    tick = datetime.fromisoformat(only["last_tick"])
    assert datetime.now(timezone.utc) - tick < timedelta(seconds=30)
    assert entries["often"]["run_count"] > 2
    assert 0 <= entries["often"]["last_lag_ms"] < 10_000
    assert entries["nightly"]["last_run"] is None
    assert datetime.fromisoformat(entries["nightly"]["next_run"]).hour == 3
    assert (entries["off"]["enabled"], entries["off"]["next_run"]) == (False, None)
    table = programs.jwt_manage("beat", "list").stdout
    assert "beat@1 leads, last tick" in table
    assert "term 1" in table


def test_the_next_runs_of_all_entries_are_shown_in_their_order(programs, beat):
    beat.kill()

    runs = programs.jwt_manage("beat", "next", "5", "--json").json()["runs"]

    assert [run["entry"] for run in runs] == ["often"] * 5
    slots = [run["slot"] for run in runs]
    assert slots == sorted(set(slots))
    programs.jwt_manage("beat", "disable", "often")
    days = programs.jwt_manage("beat", "next", "2", "--json").json()["runs"]
    assert [(run["entry"], run["queue"]) for run in days] == [("nightly", "night")] * 2


def test_entries_are_switched_while_beat_runs_and_stay_so_when_it_starts_again(
    programs, redis, beat, tmp_path
):
    sends_on(redis)

    assert programs.jwt_manage("beat", "disable", "often").status == 0
    assert programs.jwt_manage("beat", "enable", "off").status == 0

    sends_on(redis, "t.off")
    sent = tasks(redis).count("t.often")
    beat.kill()
    programs.beat("-n", "beat@2", "--file", str(tmp_path / "beat.toml"))
    sends_on(redis, "t.off")
    assert tasks(redis).count("t.often") == sent
    assert listed(programs)[1]["often"]["enabled"] is False

    programs.jwt_manage("beat", "enable", "often")
    programs.jwt_manage("beat", "disable", "off")
    sends_on(redis)
    # As the file says: nothing is left to remember.
    assert redis.hlen("_celery_redis.beat.switches") == 0


def test_a_pause_stops_everything_and_what_it_missed_is_caught_up_once(programs, redis, beat):
    sends_on(redis)

    programs.jwt_manage("beat", "pause", USER="alice")
    until(lambda: "paused by an operator" in beat.output(), "beat learns of it")
    sent = waiting(redis)
    assert listed(programs)[0]["paused_by"] == "alice"
    tick = listed(programs)[0]["beats"][0]["last_tick"]
    until(lambda: listed(programs)[0]["beats"][0]["last_tick"] > tick, "beat ticks on")
    assert waiting(redis) == sent

    programs.jwt_manage("beat", "resume")
    sends_on(redis)
    ids = [json.loads(message)["headers"]["id"] for message in redis.lrange("celery", 0, -1)]
    assert len(set(ids)) == len(ids)


def test_an_entry_is_triggered_out_of_turn_also_when_no_beat_runs(programs, redis, beat):
    before = listed(programs)[1]["nightly"]
    beat.kill()

    done = programs.jwt_manage("beat", "trigger", "nightly", "--json").json()["sent"]

    (message,) = redis.lrange("night", 0, -1)
    headers = json.loads(message)["headers"]
    assert (headers["task"], headers["argsrepr"]) == ("t.nightly", "(7,)")
    assert done == [{"entry": "nightly", "id": headers["id"], "queue": "night"}]
    assert listed(programs)[1]["nightly"]["next_run"] == before["next_run"]


def test_an_unknown_entry_is_named_and_nothing_is_done(programs, redis, beat):
    for command in ["enable", "disable", "reset", "trigger"]:
        done = programs.jwt_manage("beat", command, "nightly", "nightli")
        assert done.status == 70
        assert 'no beat entry "nightli"; `jwt_manage beat list` names them' in done.stderr
    assert redis.llen("night") == 0


def test_a_last_run_in_the_future_is_told_and_can_be_reset(programs, redis, beat, tmp_path):
    beat.kill()
    future = (datetime.now(timezone.utc) + timedelta(days=400)).isoformat()
    redis.hset("_celery_redis.beat.last_runs", "often", future)
    again = programs.beat("-n", "beat@2", "--file", str(tmp_path / "beat.toml"))
    until(lambda: "the last run of often is in the future" in again.output(), "it is told")

    programs.jwt_manage("beat", "reset", "often")

    sends_on(redis)


def test_redbeats_entries_are_taken_over(app, programs, redis, tmp_path):
    app.conf.redbeat_redis_url = app.conf.broker_url
    last_run = datetime.now(timezone.utc) - timedelta(days=3)
    entries = [
        ("cron", "t.cron", crontab(minute="*/5", hour="3", day_of_week="mon-fri"), {"priority": 3}),
        ("every", "t.every", schedule(timedelta(seconds=2.5)), {"queue": "night", "expires": 60}),
        ("jwt", "jwt_auth.tasks.rotate_jwt_keypairs", crontab(minute="0", hour="1"), {}),
        ("routed", "t.routed", schedule(60), {"routing_key": "a.b"}),
    ]
    for name, task, when, options in entries:
        entry = RedBeatSchedulerEntry(
            name, task, when, args=[1, "x"], kwargs={"k": [None]}, options=options, app=app
        )
        if name == "every":
            entry.kwargs = {"k": True}
        if name in {"cron", "jwt"}:
            entry.kwargs = {}
        entry.last_run_at = last_run
        entry.save()
    path = tmp_path / "beat.toml"

    done = programs.jwt_manage("beat", "import-redbeat", "--write", str(path), "--json").json()

    assert done["entries"] == 3
    assert [reason.split(":")[1] for reason in done["left_out"]] == ["routed"]
    listing = programs.run_beat("--list", "--json", "--file", str(path)).json()["entries"]
    found = {entry["name"]: entry for entry in listing}
    assert found["cron"]["schedule"] == "*/5 3 * * mon-fri UTC"
    assert (found["every"]["schedule"], found["every"]["queue"]) == ("every 2s500ms", "night")
    assert found["cron"]["overdue"], "it goes on from its last run"
    assert found["jwt"]["enabled"], "redbeat's entry is sent"
    assert not found["rotate-keypairs"]["enabled"], "and the built-in one of that task is not"
    programs.beat("--file", str(path))
    until(lambda: redis.llen("celery\x06\x163") == 1, "what was missed is caught up once")
