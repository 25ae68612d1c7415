"""Asking workers as Celery's own client does, and its command line."""

import subprocess
import sys
from typing import Any

from celery import Celery

from processes import Process
from programs import Programs
from waiting import until

OURS = "ours@here"
PYTHONS = "python@here"


def ready(worker: Process) -> Process:
    """The worker, once it listens to commands."""
    until(lambda: " ready" in worker.output(), "the worker is ready")
    return worker


def ours(programs: Programs, *arguments: str, **env: str) -> Process:
    """A worker of ours under the name that `ask` asks, ready."""
    return ready(programs.interop_worker("-n", OURS, *(arguments or ("-c", "1")), **env))


def pythons(app: Celery, programs: Programs, *arguments: str, **env: str) -> Process:
    """Celery's own worker, once it listens to commands, which is a moment after it says so."""
    worker = ready(programs.python_worker("-n", PYTHONS, *(arguments or ("-c", "1")), **env))
    until(lambda: app.control.ping([PYTHONS], timeout=1), "the Python worker answers")
    return worker


def ask(app: Celery, command: str, **arguments: Any) -> Any:
    """Our worker's reply to a command."""
    return ask_node(app, OURS, command, **arguments)


def ask_node(app: Celery, node: str, command: str, **arguments: Any) -> Any:
    """A worker's reply to a command."""
    replies = app.control.broadcast(
        command, arguments=arguments, destination=[node], reply=True, timeout=30, limit=1
    )
    assert len(replies) == 1, f"no reply to {command}"
    return replies[0][node]


def celery(broker_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Celery's command line to its end."""
    command = [sys.executable, "-m", "celery", "-b", broker_url, "--no-color", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def keep_short(app: Celery) -> None:
    """Has short runs of bench.hog, until all of 200 are on the line's own thread."""

    def is_short() -> bool:
        runs = [app.send_task("bench.hog", (0,)) for _ in range(200)]
        return {run.get(timeout=30) for run in runs} == {"line"}

    until(is_short, "its runs are on the line's thread")
