"""Private Redis and PostgreSQL servers on free ports, their data in temporary folders."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import psycopg
import redis

from processes import Process
from waiting import until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _program(name: str, debian_package: str, folders: list[Path]) -> str:
    path = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))
    if path is None:
        raise RuntimeError(f"{name} is not installed; on Debian: apt-get install {debian_package}")
    return path


class RedisServer:
    """A redis-server that keeps its data over a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.process = self._start()

    def _start(self) -> Process:
        server = _program("redis-server", "redis-server", [])
        process = Process(
            [server, "--port", str(self.port), "--bind", "127.0.0.1"]
            + ["--dir", str(self._folder), "--save", "", "--databases", "4096"]
            + ["--appendonly", "yes", "--appendfsync", "always"],
            self._folder / f"redis-{self.port}.log",
        )
        until(lambda: self._answers(process), f"redis-server answers on port {self.port}")
        return process

    def _answers(self, process: Process) -> bool:
        if not process.is_running():
            raise RuntimeError(f"redis-server did not start:\n{process.output()}")
        try:
            return self.client().ping()
        except redis.ConnectionError:
            return False

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def client(self, db: int = 0) -> redis.Redis:
        return redis.Redis(port=self.port, db=db, decode_responses=True)

    def stop(self) -> None:
        self.process.kill()

    def start_again(self) -> None:
        """On the same port with the data of before."""
        self.process = self._start()


FORGETFUL = ["-F", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"]


class PostgresServer:
    """A cluster; each test has a database of its own in it.

    Without durability unless that is asked for: no test survives its machine.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.port = free_port()
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self._databases = 0
        user = None
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root; its package brings this account.
            user = "postgres"
            shutil.chown(folder, user, user)
        data = folder / "data"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [_program("initdb", "postgresql", versions), "-D", data, "-U", "postgres"]
            + ["-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd=folder,
        )
        self.process = Process(
            [_program("postgres", "postgresql", versions), "-D", str(data), "-p", str(self.port)]
            + ["-h", "127.0.0.1", "-k", "", "-c", "max_connections=300"]
            + ([] if durable else FORGETFUL),
            folder / "postgres.log",
            env=environment,
            death_signal=signal.SIGQUIT,
            user=user,
        )
        until(self._answers, f"PostgreSQL answers on port {self.port}")

    def _answers(self) -> bool:
        if not self.process.is_running():
            raise RuntimeError(f"PostgreSQL did not start:\n{self.process.output()}")
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """A new database, a copy of `template`; its name."""
        self._databases += 1
        name = f"interop_{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def stop(self) -> None:
        self.process.send(signal.SIGQUIT)
        self.process.wait()
