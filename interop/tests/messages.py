"""Messages put together by hand, for what no well-behaved sender would send."""

import base64
import json
import uuid
from typing import Any

import redis as redis_client

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def body(*args: Any, **kwargs: Any) -> str:
    """The base64 text of a protocol 2 body."""
    return encode([list(args), kwargs, EMBED])


def encode(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.b64encode(text).decode()


def envelope(task: str, *args: Any, task_id: str | None = None, **kwargs: Any) -> dict[str, Any]:
    """A valid protocol 2 message to the queue `celery`, for tests to damage."""
    task_id = task_id or str(uuid.uuid4())
    return {
        "body": body(*args, **kwargs),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": repr(args),
            "kwargsrepr": repr(kwargs),
            "origin": "gen1@interop",
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid.uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def push(redis: redis_client.Redis, message: Any, queue: str = "celery") -> None:
    """Puts a message into a queue as it is: bytes and text unchanged, anything else as JSON."""
    redis.lpush(queue, message if isinstance(message, str | bytes) else json.dumps(message))


def idle(redis: redis_client.Redis, queue: str = "celery") -> bool:
    """Whether no message waits in the queue and none is lent, at the same instant.

    Asked one after the other, a message can pass from where nobody looks any more to where nobody
    looks yet.
    """
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hlen("unacked")
        for suffix in ["", *(f"\x06\x16{n}" for n in (3, 6, 9))]:
            pipeline.llen(f"{queue}{suffix}")
        return not any(pipeline.execute())


def unacked(redis: redis_client.Redis) -> int:
    """How many messages are lent to workers."""
    return redis.hlen("unacked")


def waiting(redis: redis_client.Redis, queue: str = "celery") -> int:
    """How many messages of any priority wait in the queue."""
    return sum(
        redis.llen(f"{queue}{suffix}") for suffix in ["", *(f"\x06\x16{n}" for n in (3, 6, 9))]
    )
