"""`python -m chaos`: a campaign of disturbances, and its exact ledger."""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path

import redis as redis_client

from chaos.disturbances import Disturber
from chaos.events import read
from chaos.fleet import Node
from chaos.ledger import Ledger, balance
from chaos.producer import produce, sendings
from chaos.proxy import Network, Proxy
from messages import unacked, waiting
from servers import RedisServer
from waiting import until

NODES = 4
PRODUCERS = 2
SLOTS = 32
LEASE = 2.0
DRAIN_SECONDS = 180


def main() -> int:
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    per_second = arguments.rate or max(60.0, (arguments.messages or 0) / 400)
    messages = arguments.messages or int(arguments.minutes * 60 * per_second)
    _say(f"{messages:,} messages at {per_second:g}/s, {NODES} workers, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        begin = time.monotonic()
        ledger, disturber = _campaign(Path(folder), messages, per_second, seed, arguments)
        took = time.monotonic() - begin
    _say(f"{took:.0f} s; disturbances:")
    for kind, count in disturber.counts().most_common():
        _say(f"{kind:<55} {count:>9,}")
    _say("ledger:")
    for line in ledger.lines():
        _say(line)
    _say("balanced" if ledger.is_balanced() else "NOT BALANCED")
    return 0 if ledger.is_balanced() else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--messages", type=int, metavar="N", help="messages to send")
    size.add_argument("--minutes", type=float, metavar="M", help="time to send for")
    parser.add_argument("--rate", type=float, metavar="N", help="messages per second")
    parser.add_argument("--seed", type=int, metavar="S", help="repeats a choice of disturbances")
    parser.add_argument(
        "--early-ack",
        action="store_true",
        help="acknowledge before the run: then messages are lost, and the ledger has to say so",
    )
    parser.add_argument("--keep-logs", type=Path, metavar="FOLDER", help="the workers' logs")
    arguments = parser.parse_args()
    if arguments.messages is None and arguments.minutes is None:
        arguments.messages = 2000
    return arguments


def _campaign(
    folder: Path, messages: int, per_second: float, seed: int, arguments: argparse.Namespace
) -> tuple[Ledger, Disturber]:
    redis = _server(folder / "redis")
    ledger = _server(folder / "ledger")
    # Nothing happens to this one, and it has to keep up.
    ledger.client().config_set("appendonly", "no")
    network = Network()
    senders = Proxy(network, redis.port)
    env = {"CELERY_TASK_ACKS_LATE": "false" if arguments.early_ack else "true"}
    nodes = [
        Node(folder / f"node-{n}", n, Proxy(network, redis.port), ledger.url(), **env)
        for n in range(NODES)
    ]
    for node in nodes:
        node.start(LEASE, SLOTS)
    disturber = Disturber(random.Random(seed), redis, nodes, senders, LEASE, SLOTS)  # noqa: S311
    producers = _producers(folder, senders.port, messages, per_second, seed)
    try:
        while any(producer.is_alive() for producer in producers):
            disturber.run(1)
        disturber.end_all()
        _drain(redis, messages)
        for node in nodes:
            node.finish()
        sent = [sending for log in folder.glob("producer-*") for sending in sendings(log)]
        events = list(read(ledger.client()))
        return balance(sent, events, disturber.done, *_outcomes(redis)), disturber
    finally:
        _keep_logs(nodes, arguments.keep_logs)
        for node in nodes:
            node.kill()
        for producer in producers:
            producer.kill()
        redis.stop()
        ledger.stop()
        network.close()


def _server(folder: Path) -> RedisServer:
    folder.mkdir()
    return RedisServer(folder)


def _producers(
    folder: Path, port: int, messages: int, per_second: float, seed: int
) -> list[multiprocessing.Process]:
    spawn = multiprocessing.get_context("spawn")
    producers = [
        spawn.Process(
            target=produce,
            args=(port, seed + n, range(n, messages, PRODUCERS), per_second / PRODUCERS)
            + (folder / f"producer-{n}",),
            daemon=True,
        )
        for n in range(PRODUCERS)
    ]
    for producer in producers:
        producer.start()
    return producers


def _drain(redis: RedisServer, messages: int) -> None:
    """Until nothing waits, runs, or is put away, or until that takes too long."""
    client = redis.client()
    quiet_since = [time.monotonic()]

    def is_quiet() -> bool:
        if waiting(client) or unacked(client) or client.zcard("_celery_redis.scheduled"):
            quiet_since[0] = time.monotonic()
        # What was delayed in the network arrives within this time.
        return time.monotonic() - quiet_since[0] > 3

    try:
        until(is_quiet, "all messages are done", DRAIN_SECONDS + messages / 500)
    except AssertionError:
        _say(
            f"still there: {waiting(client)} waiting, {unacked(client)} held, "
            f"{client.zcard('_celery_redis.scheduled')} put away"
        )


def _outcomes(redis: RedisServer) -> tuple[dict[str, str], set[str]]:
    """The reasons of the dead letters by key, and the ids whose stored result is a success."""
    client: redis_client.Redis = redis.client()
    dead = {}
    for tag, message in client.hgetall("_celery_redis.dead_messages").items():
        record = json.loads(client.hget("_celery_redis.dead_records", tag))
        key = json.loads(message)["headers"]["argsrepr"].split("'")[1]
        dead[key] = f"{record['reason']}: {record['detail']}"
    prefix = "celery-task-meta-"
    keys = list(client.scan_iter(f"{prefix}*", count=1000))
    results = set()
    for first in range(0, len(keys), 1000):
        batch = keys[first : first + 1000]
        for key, record in zip(batch, client.mget(batch), strict=True):
            if record and json.loads(record)["status"] == "SUCCESS":
                results.add(key.removeprefix(prefix))
    return dead, results


def _keep_logs(nodes: list[Node], folder: Path | None) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for node in nodes:
        for name, text in node.logs():
            (folder / f"{node.name}-{name}.log").write_text(text)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
