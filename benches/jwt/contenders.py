"""Three ways to do the same cleanup, each in a process of its own, so that its memory shows."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from databases import Database
from programs import binary

# One statement for each step: what is fastest while nobody else is there. It tells how long it
# took without Python's start.
SQL = """
from databases import Database, SqliteDatabase
from pathlib import Path
import json, os, sys, time
phase = sys.argv[1]
url = os.environ["DATABASE_URL"]
is_file = url.startswith("sqlite://")
database = SqliteDatabase(Path(url.removeprefix("sqlite://"))) if is_file else Database(url)
old = f"is_revoked AND revoked_at < {database.long_ago} AND expires_at < {database.long_ago}"
with database.connected() as connection:
    began = time.monotonic()
    if phase != "delete":
        connection.execute(
            f"UPDATE jwt_auth_jwttoken SET is_revoked = true, revoked_at = {database.now}"
            f" WHERE NOT is_revoked AND expires_at < {database.now}"
        )
    if phase != "revoke":
        connection.execute("BEGIN")
        connection.execute(
            "DELETE FROM jwt_auth_jwttoken_scopes WHERE jwttoken_id IN"
            f" (SELECT id FROM jwt_auth_jwttoken WHERE {old})"
        )
        connection.execute(f"DELETE FROM jwt_auth_jwttoken WHERE {old}")
        connection.execute("COMMIT")
print(json.dumps(time.monotonic() - began))
"""

# The tasks as the documentation of a site describes them.
ORM = """
import json, sys, time
import django
django.setup()
from datetime import timedelta
from django.utils import timezone
from jwt_auth.models import JWTToken
phase = sys.argv[1]
began = time.monotonic()
now = timezone.now()
rows = JWTToken.objects
if phase in ("revoke", "daily"):
    rows.filter(expires_at__lt=now, is_revoked=False).update(is_revoked=True, revoked_at=now)
if phase in ("delete", "daily"):
    rows.filter(is_revoked=True, revoked_at__lt=now - timedelta(days=90)).delete()
if phase == "health":
    rows.count()
    rows.filter(expires_at__gt=now, is_revoked=False).count()
    rows.filter(expires_at__lt=now).count()
    rows.filter(is_revoked=True).count()
    rows.filter(created_at__gte=now - timedelta(days=1)).count()
print(json.dumps(time.monotonic() - began))
"""

CLEANUP = [binary("jwt_manage"), "cleanup", "--json"]
# Nothing was revoked so long ago, so that this only revokes.
ONLY_REVOKE = {"JWT_TOKEN_RETENTION_DAYS": "36500"}
OURS = {
    "revoke": (CLEANUP, ONLY_REVOKE),
    "delete": (CLEANUP, {}),
    "daily": (CLEANUP, {}),
    "health": ([binary("jwt_manage"), "health", "--json"], {}),
}
BARE = {phase: ([sys.executable, "-c", SQL, phase], {}) for phase in ["revoke", "delete", "daily"]}
DJANGO = {phase: ([sys.executable, "-c", ORM, phase], {}) for phase in OURS}
COMMANDS = {
    "ours": OURS,
    "sql": BARE,
    "orm": DJANGO,
    "ours indexed": OURS,
    "sql indexed": BARE,
}
CONTENDERS = list(COMMANDS)
# Who does the same on the same tables.
PEERS = [("ours", "sql"), ("ours", "orm"), ("ours indexed", "sql indexed")]
# A health report says so with 1 and 2.
DONE = {"health": {0, 1, 2}}


def run(contender: str, phase: str, database: Database) -> dict[str, float] | None:
    """How long it takes, and how much memory at most; none where it does no such thing."""
    if phase not in COMMANDS[contender]:
        return None
    command, env = COMMANDS[contender][phase]
    path = os.pathsep.join([database.env["PYTHONPATH"], *filter(None, sys.path)])
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env=database.env | env | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if contender.startswith("ours") else None,
    )
    memory = 0.0
    while process.poll() is None:
        memory = max(memory, peak_memory(process.pid))
        time.sleep(0.005)
    seconds = time.monotonic() - began
    if process.returncode not in DONE.get(phase, {0}):
        raise SystemExit(f"{contender} failed with status {process.returncode}")
    answer = json.load(process.stdout)
    return {
        # Ours starts in milliseconds, and they count.
        "seconds": answer if isinstance(answer, float) else seconds,
        "memory_mib": memory,
    }


def peak_memory(pid: int) -> float:
    """In MiB. What `wait4` tells includes the process that forked."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0
