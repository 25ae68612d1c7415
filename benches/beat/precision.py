"""How exactly beat sends: the time from each slot's instant until a consumer has its message.

Starts a Redis and beat, takes the messages out of their queue as they come, and compares with the
instants that they were due at. Prints one line for each case; fails where a goal is missed.
"""

import argparse
import bisect
import itertools
import re
import socket
import sys
import tempfile
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

from engine.redis_server import BenchRedis
from processes import Process
from programs import binary
from servers import RedisServer
from waiting import until

LOG_LINE = re.compile(r"sent (\S+) \[(\S+)\] to \S+, slot (\S+), ")
ID = re.compile(rb'"id": ?"([0-9a-f-]{36})"')
# What a consumer asks for, and how each answer begins.
POP = b"BLMPOP 0 1 celery RIGHT COUNT 1000\r\n"
ANSWER = b"*2\r\n$6\r\ncelery\r\n*"
POPS_AHEAD = 1000
JITTER_NAMESPACE = uuid.UUID(int=0x0B0E6C7F51C94D578D1C7C3D9F5A2E41)
# Of a case without a goal in time, the figure is for the record.
GOALS_MS = {"spread": 50.0}
GOAL_KIB = 30 * 1024
CASES = {
    # Each entry every 10 s, somewhere within it: 1,000 messages a second.
    "spread": ('"every 10s"', 10_000),
    # All of them at the same instant, as crontabs are.
    "together": ('"every 10s"', 0),
}


def offset(name: str, slot: datetime, jitter_ms: int) -> float:
    """The seconds that an entry's jitter puts a slot off."""
    text = slot.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = uuid.uuid5(JITTER_NAMESPACE, f"{name}\n{text}").fields
    return (jitter_ms * fields[0] // 2**32) / 1000


def run_case(case: str, options: argparse.Namespace, folder: Path) -> bool:
    schedule, jitter_ms = CASES[case]
    server_folder = folder / f"redis-{case}"
    server_folder.mkdir()
    server = RedisServer(server_folder) if options.durable else BenchRedis(server_folder)
    file = folder / f"{case}.toml"
    with file.open("w") as output:
        output.write("built_in = false\n")
        for number in range(options.entries):
            output.write(f'[entries.e{number:05}]\ntask = "bench.echo"\nschedule = {schedule}\n')
            output.write(f'jitter = "{jitter_ms}ms"\n' if jitter_ms else "")
    env = {"CELERY_BROKER_URL": f"redis://127.0.0.1:{server.port}/0", "BEAT_FILE": str(file)}
    beat = Process([binary("beat"), "-n", "beat@bench"], folder / f"{case}.log", env=env)
    try:
        received = consume(server.port, beat, options.seconds)
        peak = memory(beat)
        cpu = processor(beat)
    finally:
        beat.kill()
        server.stop()
    return report(case, received, peak, cpu, beat.output(), jitter_ms)


def consume(port: int, beat: Process, seconds: float) -> dict[str, float]:
    """When each message was there, by its id, for so long after the first one.

    What comes is only noted with its time, and read afterwards: a consumer that reads 10,000
    messages at once would measure itself.
    """
    until(lambda: "leads, term" in beat.output(), "beat leads", 60)
    chunks: list[tuple[float, bytes]] = []
    deadline = None
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(1)
        connection.sendall(POP * POPS_AHEAD)
        while deadline is None or time.time() < deadline:
            try:
                chunk = connection.recv(1 << 20)
            except TimeoutError:
                continue
            chunks.append((time.time(), chunk))
            deadline = deadline or time.time() + seconds
            # One more for each answer. One that comes in two chunks is made up for by the margin.
            connection.sendall(POP * chunk.count(ANSWER))
    data = b"".join(chunk for _, chunk in chunks)
    ends = list(itertools.accumulate(len(chunk) for _, chunk in chunks))
    received: dict[str, float] = {}
    for match in ID.finditer(data):
        end = data.find(b"\r\n", match.end())
        chunk = bisect.bisect_right(ends, end) if end != -1 else len(chunks)
        if chunk < len(chunks):
            received[match[1].decode()] = chunks[chunk][0]
    return received


def memory(beat: Process) -> int:
    """The most that the process ever had, in KiB."""
    status = Path(f"/proc/{beat.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def processor(beat: Process) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{beat.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def report(
    case: str, received: dict[str, float], peak: int, cpu: float, log: str, jitter_ms: int
) -> bool:
    lags = []
    for name, task_id, slot_text in LOG_LINE.findall(log):
        if task_id not in received:
            continue
        slot = datetime.fromisoformat(slot_text.replace("Z", "+00:00")).astimezone(timezone.utc)
        due = slot.timestamp() + (offset(name, slot, jitter_ms) if jitter_ms else 0)
        lags.append((received[task_id] - due) * 1000)
    lags.sort()
    if not lags:
        print(f"{case}: nothing was sent")
        return False
    middle, p99, most = (lags[min(int(len(lags) * part), len(lags) - 1)] for part in (0.5, 0.99, 1))
    print(
        f"{case}: {len(lags)} fires, late by {middle:.1f} ms (median), {p99:.1f} ms (p99), "
        f"{most:.1f} ms (most); {peak / 1024:.1f} MiB at most, {cpu:.1f} s of processor"
    )
    return p99 <= GOALS_MS.get(case, p99) and peak <= GOAL_KIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    parser.add_argument("--durable", action="store_true", help="Redis syncs each write to its disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [run_case(case, options, Path(folder)) for case in options.case or CASES]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
