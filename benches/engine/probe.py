"""The program that fills queues and measures bare commands: benches/probe."""

import json
import subprocess
from typing import Any

from engine.site import Site
from programs import binary


def probe(site: Site, command: str, **options: str | int) -> dict[str, Any]:
    """Runs one of its commands on copies of the site's message; what it measured."""
    arguments = [*site.placement.others, binary("bench-probe"), "--port", str(site.redis.port)]
    arguments += ["--template", str(site.template), command]
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"bench-probe {command}: {done.stderr.strip()}")
    return json.loads(done.stdout)
