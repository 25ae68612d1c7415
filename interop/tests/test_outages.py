"""Every way in which Redis, PostgreSQL or the network between can fail and come back.

After each the worker works again by itself within five seconds of the service, has lost nothing,
and its log says what it waited for. `pytest -s` prints how long it took.
"""

import itertools
import json
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client

from conftest import PROGRAMS
from messages import envelope, push, unacked, waiting
from processes import Process
from programs import Programs
from proxy import Cut, Proxy
from sentinel import ConfiguredRedis, Sentinels
from servers import PostgresServer, free_port
from waiting import until

SOON = 5.0
LEASE = {"WORKER_LEASE_SECONDS": "2"}
# Commands that a worker sends when it starts, and on a new connection.
AT_START = (
    "CLIENT",
    "INFO",
    "PING",
    "SCRIPT",
    "SUBSCRIBE",
    "ZRANGEBYSCORE",
    "register",
    "SADD",
    "SMEMBERS",
)
PLACES = (Cut.BEFORE, Cut.WITHIN, Cut.AFTER, Cut.REPLY)
RECEIVED = re.compile(r"\[([0-9a-f-]{36})\] received")


@pytest.fixture
def own_folder(folder: Path, request: pytest.FixtureRequest) -> Path:
    path = folder / re.sub(r"\W", "_", request.node.name)
    path.mkdir()
    return path


@pytest.fixture
def start_redis(own_folder: Path) -> Iterator[Callable[..., ConfiguredRedis]]:
    servers: list[ConfiguredRedis] = []

    def start(*options: str, **client: Any) -> ConfiguredRedis:
        servers.append(ConfiguredRedis(own_folder / f"redis-{len(servers)}", *options, **client))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def server(start_redis: Callable[..., ConfiguredRedis]) -> ConfiguredRedis:
    """A Redis that the test may harm."""
    return start_redis()


@pytest.fixture
def proxy(server: ConfiguredRedis) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def programs(own_folder: Path, request: pytest.FixtureRequest) -> Iterator[Programs]:
    programs = Programs(own_folder, "")
    request.node.stash[PROGRAMS] = programs
    yield programs
    programs.end()


def start(programs: Programs, url: str, *arguments: str, **env: str) -> Process:
    """The interop worker on `url`, when it is ready."""
    urls = {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
    worker = programs.interop_worker(*arguments, **urls, **env)
    until(lambda: "is ready" in worker.output(), "the worker is ready")
    return worker


def send(client: redis_client.Redis, task: str, *args: Any, **kwargs: Any) -> str:
    """A message as Celery sends it, past every proxy; its id."""
    message = envelope(task, *args, **kwargs)
    push(client, message)
    return message["headers"]["id"]


def state(client: redis_client.Redis, task_id: str) -> str | None:
    record = client.get(f"celery-task-meta-{task_id}")
    return json.loads(record)["status"] if record else None


def succeeded(client: redis_client.Redis, *ids: str, seconds: float = 30) -> None:
    for task_id in ids:
        until(lambda: state(client, task_id) == "SUCCESS", f"{task_id} succeeded", seconds)  # noqa: B023


def nothing_left(client: redis_client.Redis) -> None:
    """No message is lent, waiting, put away or dead, and no record of one is left."""
    for key in ("unacked", "unacked_index", "_celery_redis.scheduled", "_celery_redis.dead"):
        assert not client.exists(key), (key, client.type(key))
    assert waiting(client) == 0
    assert [key for key in client.scan_iter("*held*") if client.hlen(key)] == []


def works_again(
    worker: Process, client: redis_client.Redis, since: float, what: str, said: str
) -> None:
    """A new message is done within five seconds of `since`; the log told of it all."""
    succeeded(client, send(client, "bench.noop"))
    took = time.monotonic() - since
    print(f"{what}: worked again {took:.2f} s after the service was back")  # noqa: T201
    assert took < SOON
    assert worker.is_running()
    until(lambda: "serves again" in worker.output(), "the log says that Redis is back", SOON)
    assert said in worker.output()


def times_in_log(worker: Process, text: str) -> int:
    return worker.output().count(text)


def halted(process: Process) -> bool:
    return ") T " in Path(f"/proc/{process.pid}/stat").read_text()


def test_redis_restarts(server, programs):
    worker = start(programs, server.url(), "-c", "2", **LEASE)
    client = server.client()
    ids = [send(client, "bench.sleep", 2), *(send(client, "bench.noop") for _ in range(50))]
    ids += [send(client, "bench.sleep", 1) for _ in range(4)]
    until(lambda: unacked(client) == 2, "both slots are taken")

    server.kill()
    until(lambda: "cannot serve" in worker.output(), "the worker says what it waits for", SOON)
    server.start()
    back = time.monotonic()

    works_again(worker, server.client(), back, "restart", "waiting for it")
    succeeded(server.client(), *ids)
    nothing_left(server.client())


def test_redis_is_paused(server, programs):
    worker = start(programs, server.url(), "-c", "2", **LEASE)
    client = server.client()
    ids = [send(client, "bench.sleep", 1), send(client, "bench.sleep", 6)]
    until(lambda: unacked(client) == 2, "both slots are taken")

    server.process.send(signal.SIGSTOP)
    until(lambda: halted(server.process), "Redis is halted")
    until(lambda: "cannot serve" in worker.output(), "the worker says what it waits for", 10)
    server.process.send(signal.SIGCONT)
    back = time.monotonic()

    works_again(worker, client, back, "pause", "timed out")
    succeeded(client, *ids)
    nothing_left(client)


def test_redis_is_out_of_memory(server, programs):
    worker = start(programs, server.url(), "-c", "2", **LEASE)
    client = server.client()
    ids = [send(client, "bench.sleep", 0.5) for _ in range(12)]
    until(lambda: unacked(client) == 2, "both slots are taken")

    client.config_set("maxmemory", 1)
    until(lambda: "OOM" in worker.output(), "the worker says what it waits for", 10)
    with pytest.raises(redis_client.ResponseError, match="maxmemory"):
        send(client, "bench.noop")
    # The lease runs out meanwhile.
    until(lambda: not client.keys("*alive*"), "the worker's sign of life is gone", 10)
    client.config_set("maxmemory", 0)
    back = time.monotonic()

    succeeded(client, *ids)
    works_again(worker, client, back, "maxmemory", "accepts no changes")
    assert times_in_log(worker, "serves again") == 1
    nothing_left(client)


def test_redis_is_read_only_after_a_failover(server, programs):
    worker = start(programs, server.url(), "-c", "2", **LEASE)
    client = server.client()
    ids = [send(client, "bench.sleep", 0.5) for _ in range(12)]
    until(lambda: unacked(client) == 2, "both slots are taken")

    # Nobody answers there, so the data stay.
    client.replicaof("127.0.0.1", free_port())
    until(lambda: "read only replica" in worker.output(), "the worker says what it waits for", 10)
    until(lambda: not client.keys("*alive*"), "the worker's sign of life is gone", 10)
    client.replicaof("NO", "ONE")
    back = time.monotonic()

    works_again(worker, client, back, "READONLY", "accepts no changes")
    assert times_in_log(worker, "serves again") == 1
    succeeded(client, *ids)
    nothing_left(client)


def restart_slowly(server: ConfiguredRedis) -> None:
    """Ends it and starts it so that it loads its data for some seconds."""
    client = server.client()
    with client.pipeline(transaction=False) as pipeline:
        for number in range(4000):
            pipeline.set(f"ballast-{number}", "x" * 100, ex=60)
        pipeline.execute()
    # As RDB it is loaded with other events in between, slowly until `load` is called.
    client.bgrewriteaof()
    until(lambda: client.info("persistence")["aof_base_size"] > 10_000, "the AOF is rewritten")
    server.kill()
    server.start(
        *("--key-load-delay", "10000"), *("--loading-process-events-interval-bytes", "1024")
    )


def load(client: redis_client.Redis) -> None:
    """Lets it load the rest at once; it is still at it."""
    assert client.info("persistence")["loading"] == 1
    client.config_set("key-load-delay", 0)


def test_redis_is_loading_when_the_worker_starts(server, programs):
    restart_slowly(server)
    client = server.client()
    worker = programs.interop_worker(CELERY_BROKER_URL=server.url())

    until(
        lambda: "loading the dataset" in worker.output(), "the worker says what it waits for", SOON
    )
    load(client)
    until(lambda: "is ready" in worker.output(), "the worker is ready")

    assert client.info("persistence")["loading"] == 0
    for once in ("cannot serve", "serves again", "connected to"):
        assert times_in_log(worker, once) == 1


def test_redis_is_loading(server, programs):
    worker = start(programs, server.url(), "-c", "2", **LEASE)
    client = server.client()
    running = send(client, "bench.sleep", 1)
    until(lambda: unacked(client) == 1, "the task runs")

    restart_slowly(server)
    until(
        lambda: "loading the dataset" in worker.output(), "the worker says what it waits for", SOON
    )
    client = server.client()
    load(client)
    until(lambda: client.info("persistence")["loading"] == 0, "Redis has loaded", 60)
    back = time.monotonic()

    works_again(worker, client, back, "LOADING", "waiting for it")
    assert times_in_log(worker, "serves again") == 1
    succeeded(client, running)
    nothing_left(client)


def test_a_half_open_connection_is_given_up(server, proxy, programs):
    worker = start(programs, proxy.url(), "-c", "2", **LEASE)
    client = server.client()
    # It is settled in the middle of it.
    running = send(client, "bench.sleep", 1)
    until(lambda: unacked(client) == 1, "the task runs")

    proxy.freeze()
    frozen = time.monotonic()

    works_again(worker, client, frozen, "half-open connections", "timed out")
    succeeded(client, running)
    nothing_left(client)


def test_a_claim_that_reaches_redis_late_takes_no_message_for_good(server, proxy, programs):
    """The network held it; by then the worker has long fetched again on another connection."""
    worker = start(programs, proxy.url(), "-c", "1", **LEASE)
    client = server.client()
    until(lambda: proxy.seen["BLMOVE"] >= 4, "the worker waits for messages")
    proxy.cut_command("claim", Cut.HOLD)
    first = send(client, "bench.sleep", 3)
    until(lambda: RECEIVED.search(worker.output()), "the worker has fetched again", 10)
    second = send(client, "bench.noop")

    proxy.released.set()
    until(lambda: unacked(client) == 2, "the late claim has taken the second message")

    succeeded(client, first, second, seconds=20)
    until(lambda: unacked(client) == 0, "the message is settled")
    nothing_left(client)


def test_a_redis_that_forgot_a_settlement_has_the_message_done_again(server, programs):
    """A failover to a replica that lagged behind: the old primary had confirmed the settlement,
    the new one knows the message as held by a process that has long forgotten it."""
    worker = start(programs, server.url(), "-c", "2", **LEASE)
    client = server.client()
    task_id = send(client, "bench.hold", "release")
    until(lambda: unacked(client) == 1, "the task runs")
    aof = server.folder / "appendonlydir"
    shutil.copytree(aof, server.folder / "lagging")
    client.set("release", 1)
    succeeded(client, task_id)

    server.kill()
    shutil.rmtree(aof)
    (server.folder / "lagging").rename(aof)
    server.start()

    client = server.client()
    until(lambda: unacked(client) == 1, "the message is recorded as held")
    client.set("release", 1)
    succeeded(client, task_id)
    assert len(RECEIVED.findall(worker.output())) == 2
    until(lambda: unacked(client) == 0, "the message is settled")
    nothing_left(client)


def ledger(worker: Process, client: redis_client.Redis, ids: list[str], what: str) -> None:
    """Counts what became of each message; none may be lost."""
    until(lambda: all(state(client, one) == "SUCCESS" for one in ids), "every message is done")
    runs = Counter(RECEIVED.findall(worker.output()))
    counted = Counter(runs[one] for one in ids)
    print(  # noqa: T201
        f"{what}: {len(ids)} messages, lost 0,"
        f" runs per message {dict(sorted(counted.items()))} (two are right: one retry)"
    )
    assert counted[0] == counted[1] == 0
    until(lambda: unacked(client) == 0, "every delivery is settled")
    nothing_left(client)


def retrying(client: redis_client.Redis) -> str:
    """A message whose life has every step: claim, settle with a retry, claim, defer, promote,
    claim, settle."""
    return send(client, "bench.retry", 1, 0.1, None)


def test_every_command_is_cut_before_within_and_after_redis_executes_it(server, proxy, programs):
    # What it asks the others comes once, and may be lost.
    worker = start(programs, proxy.url(), "-c", "2", "--without-mingle", **LEASE)
    client = server.client()
    # Another that lives, without which nobody looks for the dead.
    client.set("_celery_redis.alive.other", "{}")
    client.hset("_celery_redis.processes", "other", "{}")
    ids = [retrying(client)]
    succeeded(client, *ids)
    until(lambda: proxy.seen["renew"] > 2 and proxy.seen["HGETALL"] > 2, "all parts have worked")
    commands = [name for name in proxy.seen if name not in AT_START]
    assert {"claim", "settle", "defer", "promote", "renew", "BLMOVE"} <= set(commands)

    slowest = 0.0
    cuts = 0
    for name, where in itertools.product(commands, PLACES):
        proxy.cut_command(name, where)
        ids.append(retrying(client))
        assert proxy.cut_done.wait(5), f"no {name} came"
        cuts += 1
        at = time.monotonic()
        succeeded(client, ids[-1])
        slowest = max(slowest, time.monotonic() - at)
        assert slowest < SOON, (name, where)

    print(f"{cuts} cuts of {', '.join(commands)}; slowest {slowest:.2f} s")  # noqa: T201
    client.hdel("_celery_redis.processes", "other")
    client.delete("_celery_redis.alive.other")
    ledger(worker, client, ids, "cut at each command")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_connection_is_cut_after_the_nth_byte(server, proxy, programs, direction):
    """`up` is what Redis receives, `down` what it answers, over a whole message's life."""
    worker = start(programs, proxy.url(), "-c", "2", **LEASE)
    client = server.client()
    ids = [retrying(client)]
    # It brings the scripts to Redis, which the others find there.
    succeeded(client, *ids)
    before = proxy.passed[direction]
    ids.append(retrying(client))
    succeeded(client, *ids)
    life = proxy.passed[direction] - before

    slowest = 0.0
    points = range(0, life, max(1, life // 100))
    for count in points:
        proxy.cut_bytes(direction, count)
        ids.append(retrying(client))
        assert proxy.cut_done.wait(10)
        at = time.monotonic()
        succeeded(client, ids[-1])
        slowest = max(slowest, time.monotonic() - at)

    print(f"{len(points)} cuts within {life} bytes {direction}; slowest {slowest:.2f} s")  # noqa: T201
    assert slowest < SOON
    ledger(worker, client, ids, f"cut at the n-th byte {direction}")


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", AT_START)
def test_the_connection_is_cut_while_the_worker_starts(server, proxy, programs, name, where):
    proxy.cut_command(name, where)
    start(programs, proxy.url(), "-c", "1")

    client = server.client()
    succeeded(client, send(client, "bench.noop"))
    assert proxy.cut_done.is_set()
    nothing_left(client)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"), "maxmemory-policy"),
        (("--maxmemory", "1gb", "--maxmemory-policy", "volatile-ttl"), "maxmemory-policy"),
        (("--appendonly", "no"), "appendonly"),
    ],
    ids=["evicts-all", "evicts-volatile", "not-persistent"],
)
def test_a_redis_that_can_forget_messages_is_named_at_the_start(
    start_redis, programs, options, said
):
    server = start_redis(*options)
    worker = start(programs, server.url())

    warnings = [line for line in worker.output().splitlines() if " WARN " in line]
    assert [line for line in warnings if said in line and server.url() in line]


def test_a_redis_that_keeps_messages_is_not_warned_of(server, programs):
    worker = start(programs, server.url())

    assert " WARN " not in worker.output()


def test_a_redis_cluster_is_refused_at_the_start(start_redis, programs):
    # By default 10,000 above the port, which may be more than there are.
    server = start_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    worker = programs.interop_worker(CELERY_BROKER_URL=server.url())

    assert worker.wait() == 1
    assert f"{server.url()} is a Redis Cluster" in worker.output()


def test_the_command_timeout_is_a_setting(server, proxy, programs):
    """A Redis that answers late, but within it, is no outage."""
    worker = start(programs, proxy.url(), "-c", "1", BROKER_COMMAND_TIMEOUT="20")
    client = server.client()

    server.process.send(signal.SIGSTOP)
    until(lambda: halted(server.process), "Redis is halted")
    stopped = time.monotonic()
    until(lambda: time.monotonic() - stopped > 4.5, "the default timeout has long passed")
    server.process.send(signal.SIGCONT)

    succeeded(client, send(client, "bench.noop"))
    assert "cannot serve" not in worker.output()


@pytest.fixture
def jwt_worker(own_folder: Path, migrated_sqlite: Path, programs: Programs):
    database = own_folder / "site.sqlite3"
    shutil.copy(migrated_sqlite, database)

    def start(url: str) -> Process:
        return programs.worker(
            "-c", "2", CELERY_BROKER_URL=url, DATABASE_URL=f"sqlite://{database}"
        )

    return start


def test_a_sentinel_failover_is_followed(own_folder, jwt_worker, programs):
    """What the old primary had acknowledged and the replica had received is done. What it had
    acknowledged only itself is gone with it: that is asynchronous replication."""
    programs.env.pop("CELERY_RESULT_BACKEND")
    sentinels = Sentinels(own_folder)
    try:
        worker = jwt_worker(f"{sentinels.url()}?master_name={Sentinels.NAME}")
        until(lambda: "is ready" in worker.output(), "the worker is ready")
        client = sentinels.primary.client()
        task = "jwt_auth.tasks.initialize_jwt_scopes"
        ids = [send(client, task) for _ in range(300)]
        assert client.wait(1, 5000) == 1
        old = sentinels.primary.port
        until(lambda: any(state(client, one) for one in ids), "the first one is done")

        sentinels.primary.kill()
        killed = time.monotonic()
        client = sentinels.replica.client()
        until(lambda: client.role()[0] == "master", "the replica is the primary now")
        promoted = time.monotonic()

        succeeded(client, send(client, task))
        took = time.monotonic() - promoted
        print(  # noqa: T201
            f"failover: promoted {promoted - killed:.2f} s after the primary's death,"
            f" worked again {took:.2f} s after that"
        )
        assert took < SOON
        assert sentinels.primary_port() != old
        succeeded(client, *ids)
        until(lambda: unacked(client) == 0, "every delivery is settled", 20)
        nothing_left(client)
        for said in ("cannot serve", "serves again"):
            assert said in worker.output()
    finally:
        sentinels.stop()


CLEANUP = "jwt_auth.tasks.cleanup_expired_tokens"
BUSY = """SELECT pid FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'"""


@pytest.fixture
def jwt_site(postgres_server, migrated_postgres, server, own_folder, request):
    """The worker on a PostgreSQL database and a Redis of the test's own."""
    url = postgres_server.url(postgres_server.create_database(migrated_postgres))
    programs = Programs(own_folder, server.url(), url)
    request.node.stash[PROGRAMS] = programs
    yield url, programs.worker("-c", "1"), server.client()
    programs.end()


def hold_in_its_middle(database_url: str, worker: Process, client: redis_client.Redis):
    """Starts a task, and returns when it waits for a row that another session has locked."""
    locker = psycopg.connect(database_url)
    locker.execute("LOCK TABLE jwt_auth_jwttoken IN ACCESS EXCLUSIVE MODE")
    task_id = send(client, CLEANUP)
    return locker, task_id


def test_a_task_whose_database_connection_is_cut_is_retried(jwt_site, postgres_server):
    url, worker, client = jwt_site
    locker, task_id = hold_in_its_middle(url, worker, client)
    with psycopg.connect(url, autocommit=True) as admin:
        (pid,) = until(lambda: admin.execute(BUSY).fetchone(), "the task is in the database")
        admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
    locker.close()

    until(lambda: state(client, task_id) == "RETRY", "the task asks for a retry")
    succeeded(client, task_id)

    assert "again in 10 seconds" in worker.output()
    nothing_left(client)


def test_a_task_whose_database_restarts_is_retried(jwt_site, postgres_server):
    url, worker, client = jwt_site
    locker, task_id = hold_in_its_middle(url, worker, client)
    with psycopg.connect(url, autocommit=True) as admin:
        until(lambda: admin.execute(BUSY).fetchone(), "the task is in the database")

    restart(postgres_server)
    locker.close()

    succeeded(client, task_id)
    assert "again in 10 seconds" in worker.output()
    nothing_left(client)


def restart(server: PostgresServer) -> None:
    """Ends every session (fast shutdown), and starts it as it was."""
    old = server.process
    command = Path(f"/proc/{old.pid}/cmdline").read_text().rstrip("\0").split("\0")
    user = Path(f"/proc/{old.pid}").owner()
    old.send(signal.SIGINT)
    old.wait()
    server.process = Process(
        command,
        old.log,
        env={"LC_ALL": "C.UTF-8"},
        death_signal=signal.SIGQUIT,
        user=None if user == "root" else user,
    )
    until(lambda: answers(server), "PostgreSQL answers again")


def answers(server: PostgresServer) -> bool:
    try:
        psycopg.connect(server.url("postgres")).close()
    except psycopg.OperationalError:
        return False
    return True
