"""Three ways to do the same cleanup, each in a process of its own, so that its memory shows."""

import os
import subprocess
import sys
import time
from pathlib import Path

from databases import Database
from programs import binary

# One statement for each step: what is fastest while nobody else is there.
SQL = """
from databases import Database, SqliteDatabase
from pathlib import Path
import os
url = os.environ["DATABASE_URL"]
is_file = url.startswith("sqlite://")
database = SqliteDatabase(Path(url.removeprefix("sqlite://"))) if is_file else Database(url)
old = f"is_revoked AND revoked_at < {database.long_ago} AND expires_at < {database.long_ago}"
with database.connected() as connection:
    connection.execute(
        f"UPDATE jwt_auth_jwttoken SET is_revoked = true, revoked_at = {database.now}"
        f" WHERE NOT is_revoked AND expires_at < {database.now}"
    )
    connection.execute("BEGIN")
    connection.execute(
        "DELETE FROM jwt_auth_jwttoken_scopes WHERE jwttoken_id IN"
        f" (SELECT id FROM jwt_auth_jwttoken WHERE {old})"
    )
    connection.execute(f"DELETE FROM jwt_auth_jwttoken WHERE {old}")
    connection.execute("COMMIT")
"""

# The task as the documentation of a site describes it.
ORM = """
import django
django.setup()
from datetime import timedelta
from django.utils import timezone
from jwt_auth.models import JWTToken
now = timezone.now()
JWTToken.objects.filter(expires_at__lt=now, is_revoked=False).update(
    is_revoked=True, revoked_at=now
)
JWTToken.objects.filter(is_revoked=True, revoked_at__lt=now - timedelta(days=90)).delete()
"""

COMMANDS = {
    "ours": [binary("jwt_manage"), "cleanup", "--json"],
    "ours indexed": [binary("jwt_manage"), "cleanup", "--json"],
    "sql": [sys.executable, "-c", SQL],
    "orm": [sys.executable, "-c", ORM],
}
CONTENDERS = list(COMMANDS)


def run(contender: str, database: Database) -> dict[str, float]:
    """How long it takes, and how much memory at most."""
    path = os.pathsep.join([database.env["PYTHONPATH"], *filter(None, sys.path)])
    began = time.monotonic()
    process = subprocess.Popen(
        COMMANDS[contender],
        env=database.env | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    memory = 0.0
    while process.poll() is None:
        memory = max(memory, peak_memory(process.pid))
        time.sleep(0.02)
    if process.returncode != 0:
        raise SystemExit(f"{contender} failed with status {process.returncode}")
    return {"seconds": time.monotonic() - began, "memory_mib": memory}


def peak_memory(pid: int) -> float:
    """In MiB. What `wait4` tells includes the process that forked."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0
