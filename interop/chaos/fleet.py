"""The workers of a campaign, each behind a network of its own."""

import signal
from pathlib import Path

from chaos.proxy import Proxy
from processes import Process
from programs import Programs
from waiting import until


class Node:
    """A place for one worker process after the other, all under one node name."""

    def __init__(
        self, folder: Path, number: int, proxy: Proxy, ledger_url: str, **env: str
    ) -> None:
        folder.mkdir()
        self.name = f"node-{number}"
        self.proxy = proxy
        self._programs = Programs(folder, proxy.url())
        self._env = {"CHAOS_LEDGER_URL": ledger_url} | env
        self.process: Process | None = None

    def start(self, lease: float, slots: int) -> None:
        self.process = self._programs.interop_worker(
            *("-n", f"{self.name}@chaos", "-c", str(slots), "-l", "warn"),
            WORKER_LEASE_SECONDS=str(lease),
            **self._env,
        )

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def kill(self) -> None:
        """Killed, and gone from the process table."""
        if self.process:
            self.process.kill()
            self.process = None

    def finish(self) -> None:
        """A warm shutdown, to its end."""
        if self.process:
            self.process.send(signal.SIGTERM)
            self.process.wait(120)
            self.process = None

    def has_ended(self) -> bool:
        return self.process is None or not self.process.is_running()

    def wait_until_ended(self) -> None:
        until(self.has_ended, f"{self.name} has ended", 60)
        self.process = None

    def logs(self) -> list[tuple[str, str]]:
        return self._programs.logs()
