"""Our programs, started as an operator starts them: command line and environment only."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Process

CHECKOUT = Path(__file__).resolve().parents[2]
CELERY_EXPORTER = CHECKOUT / "target" / "celery-exporter"
BINARIES = Path(os.environ.get("INTEROP_BINARIES") or CHECKOUT / "target" / "debug")


def binary(name: str) -> str:
    path = BINARIES / name
    if not path.exists():
        raise RuntimeError(
            f"{path} is missing; build it first (./dev test does), or point INTEROP_BINARIES at"
            " the folder that holds it"
        )
    return str(path)


@dataclass(frozen=True)
class Completed:
    """What a command printed and how it ended."""

    status: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


class Programs:
    """Starts our programs for one test and ends what it left running."""

    def __init__(self, folder: Path, broker_url: str, database_url: str | None = None) -> None:
        self._folder = folder
        self._started: list[Process] = []
        self._numbers: dict[str, int] = {}
        self.env = {
            "PATH": os.environ["PATH"],
            "CELERY_BROKER_URL": broker_url,
            "CELERY_RESULT_BACKEND": broker_url,
            "RUST_BACKTRACE": "1",
        }
        if database_url is not None:
            self.env["DATABASE_URL"] = database_url

    def worker(self, *arguments: str, **env: str) -> Process:
        """The worker with the five JWT tasks."""
        return self._worker("worker", arguments, env)

    def interop_worker(self, *arguments: str, **env: str) -> Process:
        """The worker with the bench.* tasks."""
        return self._worker("interop-worker", arguments, env)

    def beat(self, *arguments: str, **env: str) -> Process:
        return self._start("beat", arguments, env)

    def python_worker(self, *arguments: str, module: str = "python_worker", **env: str) -> Process:
        """Celery's own worker, with the tasks of one of the modules beside this one."""
        command = [sys.executable, "-m", "celery", "-A", module, "worker", "-l", "info"]
        env = {"PYTHONPATH": str(Path(__file__).parent)} | env
        return self._spawn("python-worker", [*command, *arguments], env)

    def flower(self, port: int) -> Process:
        """Flower, which may do all that it offers."""
        command = [sys.executable, "-m", "celery", "-A", "python_worker", "flower"]
        env = {"PYTHONPATH": str(Path(__file__).parent), "FLOWER_UNAUTHENTICATED_API": "true"}
        return self._spawn("flower", [*command, "--address=127.0.0.1", f"--port={port}"], env)

    def exporter(self, port: int) -> Process:
        """celery-prometheus-exporter, which has task events told."""
        command = [sys.executable, "-m", "celery_prometheus_exporter", "--enable-events"]
        command += ["--broker", self.env["CELERY_BROKER_URL"], "--addr", f"127.0.0.1:{port}"]
        return self._spawn("exporter", command, {})

    def celery_exporter(self, port: int) -> Process:
        """celery-exporter, which has task events told."""
        command = [sys.executable, "-m", "celery_exporter", "--enable-events"]
        command += ["--broker-url", self.env["CELERY_BROKER_URL"]]
        command += ["--listen-address", f"127.0.0.1:{port}"]
        return self._spawn("celery-exporter", command, {"PYTHONPATH": str(CELERY_EXPORTER)})

    def jwt_manage(self, *arguments: str, **env: str) -> Completed:
        """Runs the operator's tool to its end."""
        return self._run([binary("jwt_manage"), *arguments], env)

    def run_beat(self, *arguments: str, **env: str) -> Completed:
        """Runs beat with an option that only prints or checks."""
        return self._run([binary("beat"), *arguments], env)

    def manage_py(self, *arguments: str, **env: str) -> Completed:
        """Runs the example site's manage.py to its end."""
        manage = CHECKOUT / "python" / "example" / "manage.py"
        return self._run([sys.executable, str(manage), *arguments], env)

    def interop_tokens(self, request: str) -> Completed:
        """Signs or verifies a token in Rust."""
        return self._run([binary("interop-tokens")], {}, request)

    def logs(self) -> list[tuple[str, str]]:
        """What they wrote; nothing where the session's folder is gone already."""
        there = [process for process in self._started if process.log.exists()]
        return [(process.name, process.output()) for process in there]

    def end(self) -> None:
        for process in self._started:
            process.kill()

    def _worker(self, name: str, arguments: tuple[str, ...], env: dict[str, str]) -> Process:
        if "-n" not in arguments:
            arguments = ("-n", f"{name}-{len(self._started)}@interop", *arguments)
        return self._start(name, arguments, env)

    def _start(self, name: str, arguments: tuple[str, ...], env: dict[str, str]) -> Process:
        return self._spawn(name, [binary(name), *arguments], env)

    def _spawn(self, name: str, command: list[str], env: dict[str, str]) -> Process:
        self._numbers[name] = number = self._numbers.get(name, 0) + 1
        process = Process(command, self._folder / f"{name}-{number}.log", env=self.env | env)
        self._started.append(process)
        return process

    def _run(self, command: list[str], env: dict[str, str], input_text: str = "") -> Completed:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self.env | env,
            cwd=self._folder,
            timeout=120,
            input=input_text,
            check=False,
        )
        # Searched for private keys at the end of the session.
        with (self._folder / "commands.log").open("a") as log:
            log.write(done.stdout + done.stderr)
        return Completed(done.returncode, done.stdout, done.stderr)
