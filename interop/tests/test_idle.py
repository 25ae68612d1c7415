"""A worker with nothing to do leaves Redis alone."""

from collections import Counter

from programs import Programs
from waiting import until

# A worker of its first seconds still tidies up after its start.
SETTLING = 3
RENEWALS = 3
# Known by the first key that each names.
SCRIPTS = {"_celery_redis.processes": "renewal", "_celery_redis.scheduled": "look"}


def kind(command):
    """What a command of the worker is for."""
    words = command.split()
    if words[0] == "EVALSHA":
        return SCRIPTS.get(words[3], "another script")
    if words[:2] == ["SET", "_celery_redis.reaper"]:
        return "reaper"
    return words[0]


def between_renewals(commands):
    """How many commands of each kind there were until a lease was renewed so often."""
    seen, renewals = Counter(), 0
    while renewals <= SETTLING + RENEWALS:
        command = commands.next_command()
        if command["client_type"] == "lua":
            continue
        what = kind(command["command"])
        renewals += what == "renewal"
        seen[what] += renewals > SETTLING
    return +seen


def test_an_idle_worker_sends_little_but_its_blocking_peeks(own_redis, folder):
    """Each command costs Redis, and that as often as there are workers: a fleet waits far more than
    it works. Counted against renewals, three in 10 s, so that a slow machine counts no other."""
    redis = own_redis.client()
    programs = Programs(folder, own_redis.url())
    try:
        programs.interop_worker("-c", "2")
        until(lambda: redis.hlen("_celery_redis.processes") == 1, "it is known")
        with redis.monitor() as commands:
            seen = between_renewals(commands)
    finally:
        programs.end()

    # One that is alone looks for no dead processes; of what waits a renewal tells.
    assert set(seen) <= {"renewal", "look", "BLMOVE", "PUBLISH"}
    # A peek lasts 10 s, one on each of the queue's four lists.
    assert seen["BLMOVE"] <= 8
    # Messages with an ETA, and waiting rooms, each 20 s; heartbeats each 2 s.
    assert seen["look"] <= 1
    assert seen["PUBLISH"] <= 6


def test_one_worker_of_an_idle_fleet_looks_for_the_dead(own_redis, folder):
    """The others only make sure that one does."""
    redis = own_redis.client()
    programs = Programs(folder, own_redis.url())
    count = 6
    try:
        for _ in range(count):
            programs.interop_worker("-c", "1", WORKER_LEASE_SECONDS="3")
        until(lambda: redis.hlen("_celery_redis.processes") == count, "all are known")
        seen, looks = Counter(), 0
        with redis.monitor() as commands:
            for command in commands.listen():
                words = command["command"].split()
                seen[" ".join(words[:2])] += 1
                looks += words[:2] == ["HGETALL", "_celery_redis.processes"]
                # One in each 0.6 s: the first of them from before each knew of the others.
                if looks == 4:
                    seen.clear()
                if looks == 14:
                    break
    finally:
        programs.end()

    # Whoever looked, and whoever renewed its lease while nobody had just looked.
    assert seen["SET _celery_redis.reaper"] <= 24
