"""Redis servers with settings of their own, and sentinels that watch over a primary."""

import ssl
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from processes import Process
from servers import free_port
from waiting import until


class ConfiguredRedis:
    """A redis-server that a test has to itself, with AOF unless it asks for something else."""

    def __init__(self, folder: Path, *options: str, **client: Any) -> None:
        """`options` come after ours on the command line; `client` is what a client needs."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._options = options
        self._client = client
        self.port = free_port()
        self.process = self.start()

    def start(self, *more: str) -> Process:
        """Starts it, or starts it again with the data of before, and returns when it answers."""
        self.process = Process(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(self.folder),
            ]
            + ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
            + ["--repl-diskless-sync-delay", "0", *self._options, *more],
            self.folder / f"redis-{self.port}.log",
        )
        until(self._answers, f"redis-server answers on port {self.port}")
        return self.process

    def _answers(self) -> bool:
        if not self.process.is_running():
            raise RuntimeError(f"redis-server did not start:\n{self.process.output()}")
        try:
            with self.client() as client:
                return client.ping()
        except redis.BusyLoadingError:
            return True
        except (redis.ConnectionError, ssl.SSLError):
            return False

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def client(self, db: int = 0) -> redis.Redis:
        place = {} if "unix_socket_path" in self._client else {"port": self.port}
        # It is asked while it starts, loads or is cut off: an error is an answer then.
        once = Retry(NoBackoff(), 0)
        return redis.Redis(db=db, decode_responses=True, retry=once, **place, **self._client)

    def kill(self) -> None:
        self.process.kill()


class Sentinels:
    """Three of them, over a primary with one replica."""

    NAME = "interop-primary"

    def __init__(self, folder: Path, *options: str, own_password: str = "", **client: Any) -> None:
        """`own_password` is what the sentinels ask for; `client` is for the servers."""
        self._own_password = own_password
        self.primary = ConfiguredRedis(folder / "primary", *options, **client)
        self.replica = ConfiguredRedis(
            folder / "replica", *options, "--replicaof", f"127.0.0.1 {self.primary.port}", **client
        )
        until(self._replicates, "the replica follows the primary")
        self._password = client.get("password")
        self.ports = [free_port() for _ in range(3)]
        self.processes = [self._start(folder, port) for port in self.ports]
        until(self._know_each_other, "the sentinels know each other and the replica")

    def _replicates(self) -> bool:
        with self.replica.client() as client:
            return client.info("replication")["master_link_status"] == "up"

    def _start(self, folder: Path, port: int) -> Process:
        own = folder / f"sentinel-{port}"
        own.mkdir()
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {own}",
            f"sentinel monitor {self.NAME} 127.0.0.1 {self.primary.port} 2",
            f"sentinel down-after-milliseconds {self.NAME} 500",
            f"sentinel failover-timeout {self.NAME} 3000",
        ]
        if self._password:
            lines.append(f"sentinel auth-pass {self.NAME} {self._password}")
        if self._own_password:
            lines.append(f"requirepass {self._own_password}")
        config = own / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        return Process(["redis-sentinel", str(config)], own / "sentinel.log")

    def _know_each_other(self) -> bool:
        for port in self.ports:
            try:
                with self._ask(port) as client:
                    known = client.sentinel_master(self.NAME)
            except redis.ConnectionError:
                return False
            if (known["num-slaves"], known["num-other-sentinels"]) != (1, 2):
                return False
        return True

    def _ask(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, decode_responses=True, password=self._own_password or None)

    def url(self, db: int = 0, password: str = "") -> str:
        """As kombu reads it; `password` is the primary's, percent-encoded."""
        credentials = f":{password}@" if password else ""
        first, *others = self.ports
        urls = [f"sentinel://{credentials}127.0.0.1:{first}/{db}"]
        return ";".join(urls + [f"sentinel://127.0.0.1:{port}/{db}" for port in others])

    def primary_port(self) -> int:
        """What the first sentinel names."""
        with self._ask(self.ports[0]) as client:
            return int(client.sentinel_get_master_addr_by_name(self.NAME)[1])

    def stop(self) -> None:
        for process in [*self.processes, self.primary.process, self.replica.process]:
            process.kill()
