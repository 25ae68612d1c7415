"""The names of the five maintenance tasks.

`rotate_jwt_keypairs.delay().get()` works as with any Celery task; the body runs in the Rust
worker. Here are only name and signature, so that a wrong argument is a `TypeError` for the caller
before anything is sent.

Results are dictionaries; times in them are ISO 8601 with offset. A task that cannot do its work
fails, and `.get()` raises what stopped it.
"""

from typing import Any, NoReturn

from celery import shared_task


class NotAPythonTaskError(RuntimeError):
    """The body of a maintenance task was called in Python, which has none."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.name} is implemented by the Rust worker, and a Python process was asked to run"
            " it. Do not let a Python worker consume the queue that it is sent to (send"
            " 'jwt_auth.tasks.*' to a queue of its own with task_routes, and give the Rust worker"
            " that queue with -Q), and do not call it directly or with task_always_eager."
        )


def _runs_in_rust(name: str) -> NoReturn:
    raise NotAPythonTaskError(f"jwt_auth.tasks.{name}")


@shared_task(name="jwt_auth.tasks.cleanup_expired_tokens")
def cleanup_expired_tokens() -> dict[str, Any]:
    """Revokes tokens that have expired and deletes those revoked long ago.

    Result: `success`, `expired_tokens_revoked`, `old_tokens_deleted`, `cleanup_time`.
    """
    _runs_in_rust("cleanup_expired_tokens")


@shared_task(name="jwt_auth.tasks.rotate_jwt_keypairs")
def rotate_jwt_keypairs(force: bool = False, retire_now: bool = False) -> dict[str, Any]:
    """Makes a new signing key pair when the newest is due, or when forced.

    `retire_now` deactivates all older key pairs at once: the answer to a leaked key.
    Result: `success`, `action` (`rotation_performed` or `rotation_not_needed`),
    `new_keypair_id` (when performed), `active_keypairs_count`, `rotation_time` or `check_time`.
    """
    _runs_in_rust("rotate_jwt_keypairs")


@shared_task(name="jwt_auth.tasks.cleanup_inactive_keypairs")
def cleanup_inactive_keypairs() -> dict[str, Any]:
    """Deletes inactive key pairs that are old and that no token refers to.

    Result: `success`, `keypairs_deleted`, `cleanup_time`.
    """
    _runs_in_rust("cleanup_inactive_keypairs")


@shared_task(name="jwt_auth.tasks.generate_jwt_health_report")
def generate_jwt_health_report() -> dict[str, Any]:
    """Counts tokens, key pairs and scopes and judges whether all is well.

    Result: `timestamp`, `tokens`, `keypairs`, `scopes`, `health_status` (`healthy` or `warning`),
    `severity` (`ok`, `warning` or `critical`), `reasons`.
    """
    _runs_in_rust("generate_jwt_health_report")


@shared_task(name="jwt_auth.tasks.initialize_jwt_scopes")
def initialize_jwt_scopes() -> dict[str, Any]:
    """Creates the default scopes that are missing; changes none that exists.

    Result: `success`, `created_scopes`, `total_active_scopes`, `initialization_time`.
    """
    _runs_in_rust("initialize_jwt_scopes")
