"""`python -m chaos.soak N`: many tasks through one worker; its memory and the keys after it."""

import json
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import redis as redis_client

from messages import envelope
from programs import Programs
from servers import RedisServer
from waiting import until

SLOTS = 16
WARM = 10_000
# Enough that the worker never waits, few enough that Redis holds hardly any of them.
BACKLOG = 5_000
BATCH = 1_000
# Results live so long here that some run out while the soak goes on.
RESULT_SECONDS = 60
GROWTH = 1.10


def main() -> int:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if tasks <= WARM:
        sys.exit(f"soak: more than {WARM:,} tasks, please")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        server = RedisServer(Path(folder))
        try:
            return _soak(server, Programs(Path(folder), server.url()), tasks)
        finally:
            server.stop()


def _soak(server: RedisServer, programs: Programs, tasks: int) -> int:
    redis = server.client()
    # No message of the soak needs to outlive it, and Redis has to keep up.
    redis.config_set("appendonly", "no")
    worker = programs.interop_worker(
        *("-c", str(SLOTS), "-l", "warn"), CELERY_RESULT_EXPIRES=str(RESULT_SECONDS)
    )
    until(lambda: redis.hlen("_celery_redis.processes") == 1, "the worker is known")
    before = _families(redis)
    begin = time.monotonic()
    _feed(redis, WARM)
    early = _resident(worker.pid)
    _say(f"{WARM:>10,} tasks: {early / 1024:.1f} MiB resident")
    done = WARM
    while done < tasks:
        step = min(max(tasks // 10, WARM), tasks - done)
        _feed(redis, step)
        done += step
        _say(f"{done:>10,} tasks: {_resident(worker.pid) / 1024:.1f} MiB resident")
    late = _resident(worker.pid)
    took = time.monotonic() - begin
    after = _families(redis)
    _say(f"{tasks / took:,.0f} tasks per second, their feeding and Redis on the same machine")
    failures = _failures(redis)
    for title, families in (("keys before", before), ("keys after", after)):
        _say(f"{title}:")
        for (family, ttl), count in sorted(families.items()):
            _say(f"  {family:<45} {'with TTL' if ttl else 'no TTL':<9} {count:>9,}")
    left = {family for family, ttl in after if not ttl} - {family for family, ttl in before}
    _say(f"growth {late / early - 1:+.1%}, failed tasks {failures}, new keys without TTL: {left}")
    worker.kill()
    return 0 if late <= early * GROWTH and not left and not failures else 1


def _feed(redis: redis_client.Redis, tasks: int) -> None:
    """Sends so many tasks, no faster than they are done, and waits for all of them."""
    for first in range(0, tasks, BATCH):
        pipeline = redis.pipeline(transaction=False)
        for number in range(first, min(first + BATCH, tasks)):
            pipeline.lpush("celery", json.dumps(envelope("bench.add", number, 1)))
        pipeline.execute()
        until(lambda: redis.llen("celery") < BACKLOG, "the worker keeps up", 300)
    until(lambda: redis.llen("celery") == redis.hlen("unacked") == 0, "all are done", 300)


def _resident(pid: int) -> int:
    """Resident memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def _families(redis: redis_client.Redis) -> Counter[tuple[str, bool]]:
    """Keys counted by name without the id in it, and by whether they have a TTL."""
    families: Counter[tuple[str, bool]] = Counter()
    for keys in _batches(redis.scan_iter(count=1000)):
        pipeline = redis.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        for key, ttl in zip(keys, pipeline.execute(), strict=True):
            # Gone since it was listed: that is what a TTL is for.
            if ttl != -2:
                family = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", key)
                families[family, ttl >= 0] += 1
    return families


def _failures(redis: redis_client.Redis) -> int:
    """Of the results that are still kept, those that are no success."""
    failures = 0
    for keys in _batches(redis.scan_iter("celery-task-meta-*", count=1000)):
        failures += sum('"SUCCESS"' not in record for record in redis.mget(keys) if record)
    return failures


def _batches(keys):
    batch = []
    for key in keys:
        batch.append(key)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
