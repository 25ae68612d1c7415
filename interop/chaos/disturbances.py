"""What happens to a campaign's processes, server and networks, and when."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaos.fleet import Node
from chaos.proxy import Proxy
from servers import RedisServer


@dataclass
class Disturbance:
    """From `start` to `end`, in epoch seconds, to one process or (`pid` is None) to all."""

    kind: str
    pid: int | None
    start: float
    end: float = float("inf")


class Disturber:
    """Begins disturbances at random and ends each in its time; one at a time for each target."""

    def __init__(
        self,
        rng: random.Random,
        redis: RedisServer,
        nodes: list[Node],
        senders: Proxy,
        lease: float,
        slots: int,
    ) -> None:
        self._rng = rng
        self._redis = redis
        self._nodes = nodes
        self._senders = senders
        self._lease = lease
        self._slots = slots
        self._ends: list[tuple[float, str, Disturbance, Callable[[], None]]] = []
        self.done: list[Disturbance] = []
        self._kinds: list[tuple[Callable[[], None], int]] = [
            (self._kill, 9),
            (self._stop, 4),
            (self._leave, 2),
            (self._restart_redis, 1),
            (self._pause_redis, 1),
            (self._cut, 6),
            (self._cut_senders, 2),
        ]

    def run(self, seconds: float) -> None:
        """Disturbs for so long, then lets what was begun end."""
        until = time.time() + seconds
        following = time.time()
        while time.time() < until:
            if time.time() >= following:
                kinds, weights = zip(*self._kinds, strict=True)
                self._rng.choices(kinds, weights)[0]()
                following = time.time() + self._rng.uniform(0.2, 1.5)
            self._end_what_is_due()
            time.sleep(0.01)

    def end_all(self) -> None:
        while self._ends:
            self._end_what_is_due()
            time.sleep(0.01)

    def counts(self) -> Counter[str]:
        return Counter(disturbance.kind for disturbance in self.done)

    def _end_what_is_due(self) -> None:
        now = time.time()
        due = [entry for entry in self._ends if entry[0] <= now]
        for entry in due:
            self._ends.remove(entry)
            _, _, disturbance, end = entry
            end()
            disturbance.end = time.time()

    def _begin(
        self, kind: str, target: str, pid: int | None, seconds: float, end: Callable[[], None]
    ) -> None:
        disturbance = Disturbance(kind, pid, time.time())
        self.done.append(disturbance)
        self._ends.append((time.time() + seconds, target, disturbance, end))

    def _free_node(self) -> Node | None:
        """One that runs and to which nothing happens now."""
        busy = {target for _, target, _, _ in self._ends}
        free = [node for node in self._nodes if node.name not in busy and not node.has_ended()]
        return self._rng.choice(free) if free else None

    def _is_free(self, target: str) -> bool:
        return all(target != busy for _, busy, _, _ in self._ends)

    def _start(self, node: Node) -> Callable[[], None]:
        return lambda: node.start(self._lease, self._slots)

    def _kill(self) -> None:
        if node := self._free_node():
            pid = node.pid
            self._begin("killed", node.name, pid, self._rng.uniform(0, 2), self._start(node))
            node.kill()

    def _stop(self) -> None:
        """Often for longer than its lease."""
        if (node := self._free_node()) and (process := node.process):
            seconds = self._rng.uniform(0.2, 3 * self._lease)
            self._begin(
                "stopped", node.name, node.pid, seconds, lambda: process.send(signal.SIGCONT)
            )
            process.send(signal.SIGSTOP)

    def _leave(self) -> None:
        """A cold shutdown, as of a deployment that does not wait."""
        if (node := self._free_node()) and (process := node.process):

            def end() -> None:
                node.wait_until_ended()
                node.start(self._lease, self._slots)

            self._begin("ended with QUIT", node.name, node.pid, self._rng.uniform(0, 1), end)
            process.send(signal.SIGQUIT)

    def _restart_redis(self) -> None:
        if self._is_free("redis"):
            self._begin(
                *("Redis killed", "redis", None, self._rng.uniform(0, 2)),
                self._redis.start_again,
            )
            self._redis.stop()

    def _pause_redis(self) -> None:
        """For longer than a client waits for a reply, too."""
        if self._is_free("redis"):
            process = self._redis.process
            self._begin(
                *("Redis stopped", "redis", None, self._rng.uniform(0.2, 5)),
                lambda: process.send(signal.SIGCONT),
            )
            process.send(signal.SIGSTOP)

    def _cut(self) -> None:
        if node := self._free_node():
            self._cut_network(node.name, node.pid, node.proxy)

    def _cut_senders(self) -> None:
        if self._is_free("senders"):
            # No worker notices: nothing that a worker does twice is explained by it.
            self._cut_network("senders", 0, self._senders)

    def _cut_network(self, target: str, pid: int | None, proxy: Proxy) -> None:
        of = " of the producers" if target == "senders" else ""
        kind = self._rng.randrange(4)
        seconds = self._rng.uniform(0.2, 2.5 * self._lease)
        if kind == 0:
            self._begin(f"connections{of} reset", target, pid, 0, proxy.restore)
            proxy.reset()
        elif kind == 1:
            self._begin(f"connections{of} reset within a command", target, pid, 0, proxy.restore)
            proxy.reset_within_a_command()
        elif kind == 2:
            self._begin(f"connections{of} refused", target, pid, seconds, proxy.restore)
            proxy.refuse()
        else:
            late = self._rng.choice([0, 0.5, 1.5])
            self._begin(
                *(f"packets{of} lost", target, pid, seconds),
                lambda: proxy.restore(late),
            )
            proxy.drop()


def overlapping(
    disturbances: list[Disturbance], pid: int, begin: float, end: float, recovery: float
) -> Iterator[Disturbance]:
    """What happened to the process between the two instants, or up to `recovery` before."""
    for disturbance in disturbances:
        if disturbance.pid in (None, pid) and (
            disturbance.start <= end and begin <= disturbance.end + recovery
        ):
            yield disturbance
