"""Another connection that issues and revokes tokens all the while, and how long it waits."""

import random
import threading
import time
from typing import Any

from databases import Database

# So often as a busy site does; more would measure the probe.
PAUSE = 0.01


class Probe:
    """Works from `__enter__` to `__exit__`."""

    def __init__(self, database: Database, tokens: int, name: str) -> None:
        self._database = database
        self._name = name
        self._tokens = tokens
        self._ended = threading.Event()
        self._waits: dict[str, list[float]] = {"issue": [], "revoke": []}
        self._thread = threading.Thread(target=self._work)
        self._failure: BaseException | None = None

    def __enter__(self) -> "Probe":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def report(self) -> dict[str, dict[str, float]]:
        return {
            kind: {
                "count": len(waits),
                "p50_ms": percentile(waits, 0.50),
                "p99_ms": percentile(waits, 0.99),
                "longest_ms": percentile(waits, 1),
            }
            for kind, waits in self._waits.items()
        }

    def _work(self) -> None:
        try:
            with self._database.connected() as connection:
                number = 0
                while not self._ended.wait(PAUSE):
                    number += 1
                    self._timed("issue", lambda: self._issue(connection, number))  # noqa: B023
                    self._timed("revoke", lambda: self._revoke(connection))
        except BaseException as error:  # noqa: BLE001  (of the thread that waits for this one)
            self._failure = error

    def _timed(self, kind: str, work: Any) -> None:
        began = time.monotonic()
        work()
        self._waits[kind].append(time.monotonic() - began)

    def _issue(self, connection: Any, number: int) -> None:
        place, now = self._database.place, self._database.now
        connection.execute(
            "INSERT INTO jwt_auth_jwttoken (token_id, created_at, issued_at, expires_at,"
            " is_revoked, purpose, key_pair_id, user_id)"
            f" VALUES ({place}, {now}, {now}, '2999-01-01 00:00:00', false, 'probe', 1, 1)",
            [f"probe-{self._name}-{number}"],
        )

    def _revoke(self, connection: Any) -> None:
        """Any token: one that somebody logs out of may be one that the cleanup is at."""
        place, now = self._database.place, self._database.now
        connection.execute(
            f"UPDATE jwt_auth_jwttoken SET is_revoked = true, revoked_at = {now}"
            f" WHERE token_id = {place} AND NOT is_revoked",
            [f"jti-{random.randint(1, self._tokens)}"],  # noqa: S311
        )


def percentile(waits: list[float], part: float) -> float:
    if not waits:
        return 0.0
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000
