"""A TCP proxy before a Redis that understands commands and replies, so that it can cut between
any two bytes of them, and knows what Redis has executed by then."""

import hashlib
import socket
import struct
import threading
from collections import Counter
from enum import Enum
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "celery-redis" / "src" / "transport" / "scripts"
NAMES = {hashlib.sha1(file.read_bytes()).hexdigest(): file.stem for file in SCRIPTS.iterdir()}  # noqa: S324
RESET = struct.pack("ii", 1, 0)


class Cut(Enum):
    """Where the connection ends, seen from one command."""

    BEFORE = "before Redis gets any of it"
    WITHIN = "when Redis has half of it"
    AFTER = "when Redis has executed it and the reply is lost"
    REPLY = "when half of the reply is through"
    HOLD = "not at all: it reaches Redis when the test lets it"


def _line_end(data: bytes, at: int) -> int:
    end = data.find(b"\r\n", at)
    return end + 2 if end >= 0 else -1


def _value_end(data: bytes, at: int) -> int:
    """Where the RESP2 value that begins at `at` ends; -1 if it is not complete."""
    end = _line_end(data, at)
    if end < 0 or data[at : at + 1] in (b"+", b"-", b":"):
        return end
    count = int(data[at + 1 : end - 2])
    if data[at : at + 1] == b"$":
        end += count + 2 if count >= 0 else 0
        return end if end <= len(data) else -1
    for _ in range(count):
        end = _value_end(data, end)
        if end < 0:
            return -1
    return end


def _name(command: bytes) -> str:
    """`claim` for the script of that name, else the command's own name."""
    words = command.split(b"\r\n")
    name = words[2].decode().upper()
    return NAMES.get(words[4].decode(), name) if name == "EVALSHA" else name


class _Line:
    """One client's connection and its other half."""

    def __init__(self, proxy: "Proxy", client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client, self.server = client, server
        self.open = threading.Event()
        self.open.set()
        self.commands = self.replies = 0
        self.cut_reply: tuple[int, Cut] | None = None
        for direction in (self._up, self._down):
            threading.Thread(target=self._run, args=(direction,), daemon=True).start()

    def _run(self, direction) -> None:
        try:
            direction()
        except OSError:
            pass
        finally:
            self.reset()

    def _up(self) -> None:
        for command in self._values(self.client):
            cut = self.proxy.decide(_name(command))
            self.commands += 1
            if cut is Cut.BEFORE:
                return
            if cut is Cut.WITHIN:
                self.server.sendall(command[: len(command) // 2])
                return
            if cut is Cut.HOLD:
                self.proxy.released.wait()
            elif cut is not None:
                self.cut_reply = (self.commands, cut)
            self._send(self.server, command, "up")

    def _down(self) -> None:
        for reply in self._values(self.server):
            self.replies += 1
            if self.cut_reply and self.cut_reply[0] == self.replies:
                if self.cut_reply[1] is Cut.REPLY:
                    self.client.sendall(reply[: len(reply) // 2])
                return
            self._send(self.client, reply, "down")

    def _values(self, source: socket.socket):
        data = b""
        while chunk := source.recv(65536):
            self.open.wait()
            data += chunk
            while data and (end := _value_end(data, 0)) >= 0:
                value, data = data[:end], data[end:]
                yield value

    def _send(self, target: socket.socket, data: bytes, direction: str) -> None:
        allowed = self.proxy.allow(direction, len(data))
        target.sendall(data[:allowed])
        if allowed < len(data):
            raise ConnectionResetError

    def reset(self) -> None:
        """Both halves end at once, with RST towards the client."""
        for end in (self.client, self.server):
            try:
                if end is self.client:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It was closed before.
                pass
            end.close()
        self.proxy.lines.discard(self)


class Proxy:
    """Listens on a free port; `armed` cuts happen once each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self.lines: set[_Line] = set()
        self.seen: Counter[str] = Counter()
        self.passed = Counter[str]()
        self._armed: tuple[str, Cut] | None = None
        self._budget: dict[str, int] = {}
        self.cut_done = threading.Event()
        self.released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, db: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{db}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.lines.add(_Line(self, client, server))

    def cut_command(self, name: str, where: Cut) -> None:
        """The next command of that name ends its connection, there."""
        with self._lock:
            self.cut_done.clear()
            self.released.clear()
            self._armed = (name, where)

    def cut_bytes(self, direction: str, count: int) -> None:
        """After so many bytes in that direction, on whichever connection, it ends."""
        with self._lock:
            self.cut_done.clear()
            self._budget = {direction: count}

    def freeze(self) -> None:
        """What is connected now stays so, and nothing passes any more; new connections work."""
        for line in list(self.lines):
            line.open.clear()

    def thaw(self) -> None:
        for line in list(self.lines):
            line.open.set()

    def decide(self, name: str) -> Cut | None:
        with self._lock:
            self.seen[name] += 1
            if self._armed is None or self._armed[0] != name:
                return None
            cut, self._armed = self._armed[1], None
            self.cut_done.set()
            return cut

    def allow(self, direction: str, count: int) -> int:
        with self._lock:
            self.passed[direction] += count
            if direction not in self._budget:
                return count
            if self._budget[direction] >= count:
                self._budget[direction] -= count
                return count
            self.cut_done.set()
            return self._budget.pop(direction)

    def close(self) -> None:
        self._listener.close()
        self.released.set()
        for line in list(self.lines):
            line.open.set()
            line.reset()
