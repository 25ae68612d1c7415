"""Our crontab against Celery's own, over random expressions and instants."""

import json
import random
import subprocess
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import ParseException, crontab

from programs import CHECKOUT

ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin"]
CASES = 120_000
START = datetime(2020, 1, 1, tzinfo=timezone.utc)
YEARS = 20
FIELDS = [
    (0, 59, []),
    (0, 23, []),
    (1, 31, []),
    (1, 12, ["jan", "february", "MAR", "Apr", "dec"]),
    (0, 6, ["sun", "monday", "TUE", "sat"]),
]


@pytest.fixture(scope="module")
def ours() -> str:
    """The path of our parser as a program."""
    subprocess.run(
        [
            "cargo",
            "build",
            "-q",
            "-p",
            "beat",
            "--example",
            "crontab_next",
            "--message-format=short",
        ],
        cwd=CHECKOUT,
        check=True,
    )
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    return f"{json.loads(metadata.stdout)['target_directory']}/debug/examples/crontab_next"


def random_part(source: random.Random, least: int, most: int, names: list[str]) -> str:
    def value() -> str:
        if names and source.random() < 0.3:
            return source.choice(names)
        # Sometimes one more or one less than there is.
        return str(source.randint(least, most) + (source.random() < 0.004))

    kind = source.random()
    if kind < 0.35:
        return value()
    head = "*" if kind < 0.6 else f"{value()}-{value()}"
    step = f"/{source.choice([1, 2, 3, 5, 7, 10, 15, 40, 'x', 0])}"
    if source.random() < 0.97 and step in ("/x", "/0"):
        step = ""
    return head + (step if source.random() < 0.6 else "")


def random_field(source: random.Random, least: int, most: int, names: list[str]) -> str:
    if source.random() < 0.3:
        return "*"
    count = source.choice([1, 1, 1, 2, 3])
    return ",".join(random_part(source, least, most, names) for _ in range(count))


def clock_changes(zone: str) -> list[datetime]:
    """When the clocks of a zone are put forward or back, to the minute."""
    clock = ZoneInfo(zone)
    changes = []
    day = timedelta(days=1)
    for number in range(YEARS * 365):
        before = START + number * day
        after = before + day
        if before.astimezone(clock).utcoffset() == after.astimezone(clock).utcoffset():
            continue
        while after - before > timedelta(minutes=1):
            middle = before + (after - before) / 2
            if middle.astimezone(clock).utcoffset() == before.astimezone(clock).utcoffset():
                before = middle
            else:
                after = middle
        changes.append(after)
    return changes


def random_case(
    source: random.Random, changes: dict[str, list[datetime]]
) -> tuple[str, str, datetime]:
    zone = source.choice(ZONES)
    fields = [random_field(source, *field) for field in FIELDS]
    instant = START + timedelta(days=source.random() * YEARS * 365)
    if changes[zone] and source.random() < 0.5:
        instant = source.choice(changes[zone]) + timedelta(hours=source.uniform(-8, 4))
        # Any day: or else the next slot is months away from the change.
        fields[2:] = ["*", "*", "*"]
    return " ".join(fields), zone, instant


def in_a_repeated_hour(instant: datetime, zone: str) -> bool:
    """Whether the clock shows this time for the second time.

    Celery looks for the next time of the clock from the first showing, and so finds slots in the
    past there: it runs such an entry over and over until the clock is out of that hour.
    """
    return instant.astimezone(ZoneInfo(zone)).fold == 1


def goes_on_in_the_repeated_hour(expression: str, zone: str, instant: datetime, ours: str) -> bool:
    """Whether our answer is the first minute of a repeated hour, where every hour matches.

    Celery leaves that hour out; we do not, on purpose.
    """
    schedule = crontab.from_string(expression)
    clock = ZoneInfo(zone)
    answer = datetime.fromisoformat(ours).astimezone(clock)
    if len(schedule.hour) < 24 or answer.fold == 0:
        return False
    minute = answer.astimezone(timezone.utc)
    between = max(instant, minute - timedelta(hours=2)).replace(second=0, microsecond=0)
    matches = []
    while (between := between + timedelta(minutes=1)) <= minute:
        time = between.astimezone(clock)
        if (
            time.minute in schedule.minute
            and time.day in schedule.day_of_month
            and time.month in schedule.month_of_year
            and time.isoweekday() % 7 in schedule.day_of_week
        ):
            matches.append(between)
    return matches == [minute]


def celerys_answer(expression: str, zone: str, instant: datetime) -> str:
    try:
        schedule = crontab.from_string(expression)
    except (ValueError, ParseException):
        return "error"
    schedule.__dict__["tz"] = ZoneInfo(zone)
    schedule.nowfun = lambda: instant
    due = instant + schedule.remaining_estimate(instant)
    return due.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


@pytest.mark.timeout(600)
def test_random_expressions_mean_what_they_mean_to_celery(ours: str) -> None:
    source = random.Random(20261123)  # noqa: S311, cases, not secrets
    changes = {zone: clock_changes(zone) for zone in ZONES}
    cases = [random_case(source, changes) for _ in range(CASES)]
    cases = [case for case in cases if not in_a_repeated_hour(case[2], case[1])]
    questions = "\n".join(
        json.dumps([expression, zone, instant.isoformat()]) for expression, zone, instant in cases
    )
    run = subprocess.run(
        [ours], input=questions, capture_output=True, text=True, check=True, timeout=120
    )
    answers = run.stdout.splitlines()
    assert len(answers) == len(cases)

    wrong = []
    refused = repeated = 0
    for case, answer in zip(cases, answers, strict=True):
        expected = celerys_answer(*case)
        refused += expected == "error"
        answered = "error" if answer.startswith("error:") else answer
        if expected == answered:
            continue
        if "error" not in {expected, answered} and goes_on_in_the_repeated_hour(*case, answered):
            repeated += 1
        else:
            wrong.append((*case[:2], case[2].isoformat(), f"Celery {expected}, ours {answer}"))
    assert not wrong, f"{len(wrong)} of {len(cases)} differ, first: {wrong[:5]}"
    assert len(cases) > 100_000
    assert repeated > 50, "too few repeated hours to say anything about them"
    assert refused > 100, "too few mistakes among the expressions to say anything about them"
