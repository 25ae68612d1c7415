"""Sends a canvas as a Python producer does, and prints the key of its result."""

import sys

from celery import Celery, chain, chord, group
from celery.canvas import Signature

from engine.contenders import QUEUE, WAITING


def a_chord(app: Celery, parts: int) -> Signature:
    return chord(
        group(app.signature("bench.add", (part, 1), queue=WAITING) for part in range(parts)),
        app.signature("bench.echo", queue=QUEUE),
    )


def a_chain(app: Celery, links: int) -> Signature:
    first = app.signature("bench.add", (0, 1), queue=WAITING)
    return chain(first, *(app.signature("bench.add", (1,), queue=QUEUE) for _ in range(links - 1)))


def main(url: str, kind: str, size: str) -> None:
    app = Celery(broker=url, backend=url)
    canvas = {"chord": a_chord, "chain": a_chain}[kind](app, int(size))
    print(app.backend.get_key_for_task(canvas.apply_async().id).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
