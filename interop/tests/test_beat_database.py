"""beat on the tables of a real django-celery-beat, which a site edits in its admin."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from conftest import programs_on
from processes import Process
from waiting import until

TESTS = Path(__file__).parent
SCHEDULES = ["intervalschedule", "crontabschedule", "clockedschedule"]
MODELS = (
    "import json\n"
    "from datetime import timedelta\n"
    "from django.utils.timezone import now\n"
    "from django_celery_beat.models import *\n"
    "def every(seconds): return IntervalSchedule.objects.get_or_create("
    "every=seconds, period='seconds')[0]\n"
)


class Site:
    """The site's side: Django's ORM in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        path = os.pathsep.join([str(TESTS), str(TESTS.parents[1] / "python" / "example")])
        self.env = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "PYTHONPATH": path}

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, str(TESTS / "beat_site.py"), *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-c", MODELS + code)

    def row(self, name: str) -> dict:
        fields = "'enabled', 'total_run_count', 'last_run_at'"
        query = f"PeriodicTask.objects.filter(name={name!r}).values({fields}).get()"
        return json.loads(self.run(f"print(json.dumps({query}, default=str))"))


@pytest.fixture(scope="session")
def sqlite_site(folder):
    path = folder / "beat_site.sqlite3"
    Site(f"sqlite://{path}").manage("migrate", "-v", "0")
    return path


@pytest.fixture(scope="session")
def postgres_site(postgres_server):
    name = postgres_server.create_database()
    Site(postgres_server.url(name)).manage("migrate", "-v", "0")
    return name


@pytest.fixture
def admin(request, engine, folder):
    """A site of its own for one test, on either database."""
    if engine == "sqlite":
        path = folder / f"{request.node.name}.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_site"), path)
        return Site(f"sqlite://{path}")
    server = request.getfixturevalue("postgres_server")
    return Site(server.url(server.create_database(request.getfixturevalue("postgres_site"))))


@pytest.fixture
def programs(request, broker_url, admin):
    yield from programs_on(request, broker_url, database_url=admin.url)


def messages(redis, queue="celery"):
    return [json.loads(message) for message in redis.lrange(queue, 0, -1)]


def count(redis, task):
    return sum(message["headers"]["task"] == task for message in messages(redis))


def start(programs) -> Process:
    return programs.beat("-n", "beat@1", BEAT_SCHEDULER="database")


def test_rows_are_sent_as_the_scheduler_of_celery_sends_them(programs, redis, admin):
    admin.run(
        "PeriodicTask.objects.create(name='every two', task='t.add', interval=every(1),"
        " args='[1, 2]', kwargs='{\"k\": null}', priority=3, expire_seconds=60,"
        " headers='{\"h\": 1}', queue='')"
    )
    golden = json.loads((TESTS / "golden" / "beat-django-celery-beat.json").read_text())
    expected = golden["messages"][0]["envelope"]

    start(programs)
    until(lambda: redis.llen("celery\x06\x163") >= 2, "it is sent")

    message = messages(redis, "celery\x06\x163")[-1]
    assert message.keys() == expected.keys()
    assert list(message["headers"]) == list(expected["headers"])
    assert message["properties"].keys() == expected["properties"].keys()
    for header in ["task", "h", "periodic_task_name", "celery_beat_task", "ignore_result"]:
        assert message["headers"][header] == expected["headers"][header]
    assert message["properties"]["expiration"] == expected["properties"]["expiration"]
    # The admin shows when it ran.
    until(lambda: admin.row("every two")["total_run_count"] >= 2, "the runs are written")
    assert admin.row("every two")["last_run_at"] is not None


def test_a_change_in_the_admin_counts_within_five_seconds(programs, redis, admin):
    admin.run("PeriodicTask.objects.create(name='a', task='t.a', interval=every(3600))")
    start(programs)
    until(lambda: redis.hexists("_celery_redis.beat.entries", "a"), "it is known")
    assert count(redis, "t.a") == 0

    admin.run("task = PeriodicTask.objects.get(); task.interval = every(1); task.save()")
    saved = time.monotonic()
    until(lambda: count(redis, "t.a") >= 1, "it is sent every second")
    assert time.monotonic() - saved < 5 + 1

    admin.run("task = PeriodicTask.objects.get(); task.enabled = False; task.save()")
    saved = time.monotonic()
    until(lambda: not redis.hexists("_celery_redis.beat.entries", "a"), "it is off")
    assert time.monotonic() - saved < 5


def test_a_task_that_runs_once_is_switched_off_where_the_admin_sees_it(programs, redis, admin):
    admin.run(
        "PeriodicTask.objects.create(name='one', task='t.one', interval=every(1), one_off=True)\n"
        "at = ClockedSchedule.objects.create(clocked_time=now() + timedelta(seconds=2))\n"
        "PeriodicTask.objects.create(name='at', task='t.at', clocked=at, one_off=True)\n"
        "PeriodicTask.objects.create(name='often', task='t.often', interval=every(1))"
    )
    beat = start(programs)

    until(lambda: count(redis, "t.one") and count(redis, "t.at"), "both are sent")
    until(lambda: not admin.row("one")["enabled"], "the first is switched off")
    until(lambda: not admin.row("at")["enabled"], "the second too")
    sent = count(redis, "t.often")
    until(lambda: count(redis, "t.often") > sent + 2, "beat goes on")

    assert (count(redis, "t.one"), count(redis, "t.at")) == (1, 1)
    assert admin.row("often")["enabled"], beat.output()


def test_beat_goes_on_from_where_the_scheduler_of_celery_was(programs, redis, admin):
    admin.run(
        "cron = CrontabSchedule.objects.create(minute='0', hour='3', timezone='Europe/Berlin')\n"
        "PeriodicTask.objects.create(name='missed', task='t.missed', crontab=cron,"
        " last_run_at=now() - timedelta(days=2))\n"
        "PeriodicTask.objects.create(name='new', task='t.new', crontab=cron)"
    )

    start(programs)

    until(lambda: count(redis, "t.missed") == 1, "what was missed is caught up once")
    assert count(redis, "t.new") == 0
    listed = programs.jwt_manage("beat", "list", "--json").json()["entries"]
    schedules = {entry["name"]: entry["schedule"] for entry in listed}
    assert schedules["new"] == "0 3 * * * Europe/Berlin"


def test_the_built_in_entries_leave_to_the_site_what_it_names(programs, redis, admin):
    admin.run(
        "cron = CrontabSchedule.objects.create(minute='0', hour='1')\n"
        "PeriodicTask.objects.create(name='mine', task='jwt_auth.tasks.rotate_jwt_keypairs',"
        " crontab=cron)\n"
        "sun = SolarSchedule.objects.create(event='sunrise', latitude=1, longitude=2)\n"
        "PeriodicTask.objects.create(name='sun', task='t.sun', solar=sun)"
    )

    beat = start(programs)
    until(lambda: redis.hlen("_celery_redis.beat.entries") == 5, "the entries are known")

    names = set(redis.hkeys("_celery_redis.beat.entries"))
    assert "mine" in names
    assert "rotate-keypairs" not in names
    assert '"sun" is not sent: its schedule is none of' in beat.output()


def test_a_beat_without_its_tables_says_so_and_does_not_lead(programs, redis, tmp_path):
    url = f"sqlite://{tmp_path / 'empty.sqlite3'}"

    beat = programs.beat("-n", "beat@1", BEAT_SCHEDULER="database", DATABASE_URL=url)
    until(lambda: "this beat does not lead" in beat.output(), "it says so")

    assert "no such table: django_celery_beat_periodictask" in beat.output()
    assert programs.run_beat("--check", "-n", "beat@1").status == 1
    assert redis.dbsize() == 0
    done = programs.run_beat("--validate", "--scheduler", "database", DATABASE_URL=url)
    assert done.status == 74


def test_an_outage_of_the_database_stops_nothing_that_is_known(programs, redis, admin):
    admin.run("PeriodicTask.objects.create(name='often', task='t.often', interval=every(1))")
    beat = start(programs)
    until(lambda: count(redis, "t.often") >= 1, "it is sent")
    rename = (
        "from django.db import connection\n"
        "connection.cursor().execute('ALTER TABLE django_celery_beat_periodictask{} RENAME TO"
        " django_celery_beat_periodictask{}')"
    )

    admin.run(rename.format("s", "s_away"))
    until(lambda: "the entries of before stay" in beat.output(), "the outage is told")
    sent = count(redis, "t.often")
    until(lambda: count(redis, "t.often") > sent + 2, "beat goes on")
    assert beat.output().count("the entries of before stay") == 1

    admin.run(rename.format("s_away", "s"))
    until(lambda: "can be read and written again" in beat.output(), "so is its end")


def test_beat_needs_no_other_rights_than_those_that_are_documented(
    redis, request, broker_url, postgres_server, postgres_site
):
    name = postgres_server.create_database(postgres_site)
    admin = Site(postgres_server.url(name))
    admin.run(
        "PeriodicTask.objects.create(name='one', task='t.one', interval=every(1), one_off=True)"
    )
    role = f"beat_{name}"
    tables = ["periodictask", "periodictasks", *SCHEDULES]
    with psycopg.connect(admin.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        for table in tables:
            connection.execute(f"GRANT SELECT ON django_celery_beat_{table} TO {role}")
        for table in tables[:2]:
            connection.execute(f"GRANT UPDATE ON django_celery_beat_{table} TO {role}")
    url = admin.url.replace("postgres@", f"{role}@")

    for programs in programs_on(request, broker_url, database_url=url):
        beat = start(programs)
        until(lambda: count(redis, "t.one") == 1, "it is sent")
        until(lambda: not admin.row("one")["enabled"], "it is switched off")
        assert "ERROR" not in beat.output()
