"""Hearing events as Celery's own monitors do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery


class Heard:
    """What Celery's own receiver hears, in its order."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def of(self, task_id: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event.get("uuid") == task_id]

    def types(self, task_id: str) -> list[str]:
        return [event["type"] for event in self.of(task_id)]

    def last(self, kind: str) -> dict[str, Any] | None:
        found = [event for event in list(self.events) if event["type"] == kind]
        return found[-1] if found else None


@contextmanager
def listening(app: Celery) -> Iterator[Heard]:
    heard = Heard()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": heard.events.append})
        ready = threading.Event()
        receiver.on_consume_ready = lambda *_, **__: ready.set()
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        thread.start()
        try:
            assert ready.wait(30)
            yield heard
        finally:
            receiver.should_stop = True
            thread.join()
