"""A network between a program and its Redis that can be cut, in the ways that networks are."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

CHUNK = 64 * 1024
# SO_LINGER of zero seconds: closing sends RST instead of FIN.
RESET = struct.pack("ii", 1, 0)


class Network:
    """An event loop in a thread of its own, which all proxies share."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


class Proxy:
    """Forwards connections on a port of its own to `upstream`, unless it is told otherwise."""

    def __init__(self, network: Network, upstream: int) -> None:
        self._network = network
        self._upstream = upstream
        self._links: set[_Link] = set()
        self._refuses = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._server = network.call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def reset(self) -> None:
        """Resets every connection; new ones are accepted at once."""
        self._network.call(self._reset())

    def reset_within_a_command(self) -> None:
        """The same, each connection in the middle of the next bytes that it carries."""
        self._network.call(self._set(half=True))

    def refuse(self) -> None:
        """Resets every connection, and each new one until `restore`."""
        self._refuses = True
        self.reset()

    def drop(self) -> None:
        """Carries nothing any more, and says nothing: until `restore`, packets get lost.

        What was sent meanwhile arrives after it, as TCP sends it again, also where the sender has
        given its connection up by then.
        """
        self._network.call(self._set(flows=False))

    def restore(self, late: float = 0) -> None:
        """Works again; what old connections still carry comes `late` seconds after new ones."""
        self._refuses = False
        self._network.call(self._set(flows=True, late=late))

    def close(self) -> None:
        self._refuses = True
        self._server.close()
        self.reset()

    async def _reset(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _set(self, *, flows: bool | None = None, half: bool = False, late: float = 0) -> None:
        for link in self._links:
            link.half = link.half or half
            link.late = late
        if flows is True:
            self._flows.set()
        elif flows is False:
            self._flows.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self._flows, writer)
        if self._refuses:
            link.reset()
            return
        self._links.add(link)
        try:
            await link.carry(reader, self._upstream)
        finally:
            self._links.discard(link)


class _Link:
    """One connection through the proxy."""

    def __init__(self, flows: asyncio.Event, client: asyncio.StreamWriter) -> None:
        self._flows = flows
        self._client = client
        self._server: asyncio.StreamWriter | None = None
        self.half = False
        self.late = 0.0

    async def carry(self, reader: asyncio.StreamReader, upstream: int) -> None:
        try:
            # Without a network there is no handshake with the server either.
            await self._arrive()
            replies, self._server = await asyncio.open_connection("127.0.0.1", upstream)
        except OSError:
            self.reset()
            return
        there = asyncio.create_task(self._pump(reader, self._server))
        back = asyncio.create_task(self._pump(replies, self._client))
        await asyncio.wait([there, back])

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                await self._arrive()
                if self.half:
                    sink.write(data[: len(data) // 2])
                    await sink.drain()
                    self.reset()
                    return
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        # One way is closed: what was sent before it has arrived.
        await self._arrive()
        with suppress(OSError):
            sink.close()
            await sink.wait_closed()

    async def _arrive(self) -> None:
        if not self._flows.is_set():
            await self._flows.wait()
            await asyncio.sleep(self.late)

    def reset(self) -> None:
        for writer in (self._client, self._server):
            if writer is None:
                continue
            with suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
