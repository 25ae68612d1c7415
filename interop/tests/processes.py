"""Processes that tests start: their output in a file, their life no longer than pytest's."""

import ctypes
import os
import signal
import subprocess
from pathlib import Path

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent(sig: int, parent: int) -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class Process:
    """A running program. Killed when pytest dies, whatever kills pytest."""

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        *,
        env: dict[str, str] | None = None,
        death_signal: int = signal.SIGKILL,
        user: str | None = None,
    ) -> None:
        self.name = log.stem
        self.log = log
        parent = os.getpid()
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=log.parent,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(death_signal, parent),
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def send(self, sig: int) -> None:
        self._popen.send_signal(sig)

    def wait(self, seconds: float = 30) -> int:
        """The exit status; negative for the signal that ended it."""
        return self._popen.wait(seconds)

    def kill(self) -> None:
        """Ends it at once and waits until it is gone."""
        self._popen.kill()
        self._popen.wait()

    def output(self) -> str:
        return self.log.read_text(errors="replace")
