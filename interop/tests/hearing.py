"""Hearing events as Celery's own monitors do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from waiting import until

PROBE = "interop-probe"


class Heard:
    """What Celery's own receiver hears, in its order."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.listens = threading.Event()

    def note(self, event: dict[str, Any]) -> None:
        if event["type"] == PROBE:
            self.listens.set()
        else:
            self.events.append(event)

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
        receiver = app.events.Receiver(connection, handlers={"*": heard.note})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False})
        thread.start()
        try:
            # kombu subscribes only when it waits for the first time: nothing else says when.
            with app.events.default_dispatcher() as dispatcher:

                def listens() -> bool:
                    dispatcher.send(PROBE)
                    return heard.listens.wait(0.1)

                until(listens, "the receiver listens")
            yield heard
        finally:
            receiver.should_stop = True
            thread.join()
