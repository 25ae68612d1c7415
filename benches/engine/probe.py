"""The program that fills queues and measures bare commands: benches/probe."""

import json
import subprocess
from pathlib import Path
from typing import Any

from engine.redis_server import BenchRedis
from programs import binary


def probe(redis: BenchRedis, template: Path, command: str, **options: str | int) -> dict[str, Any]:
    """Runs one of its commands; what it measured."""
    arguments = [binary("bench-probe"), "--port", str(redis.port), "--template", str(template)]
    arguments.append(command)
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"bench-probe {command}: {done.stderr.strip()}")
    return json.loads(done.stdout)
