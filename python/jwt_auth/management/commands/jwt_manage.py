"""`manage.py jwt_manage`: the maintenance by hand, done by the Rust worker.

Each action sends a task and waits for its result; `status` reads the tables. The binary
`jwt_manage` offers the same directly on the database, for when the queue is down.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Task
from celery.exceptions import TimeoutError as ResultTimeoutError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count, Q
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from jwt_auth import tasks
from jwt_auth.models import JWTKeyPair, JWTScope, JWTToken

HEALTH_EXIT_CODES = {"ok": 0, "warning": 1, "critical": 2}

# Failures stay apart from the exit codes of `health`; the numbers are those of sysexits.h.
USAGE = 64
UNAVAILABLE = 69
TASK_FAILED = 70
NO_ANSWER = 75


@dataclass(frozen=True)
class Report:
    """What an action did: `data` for scripts, `lines` for people."""

    data: dict[str, Any]
    lines: list[str]
    exit_code: int = 0


class Command(BaseCommand):
    """Sends one maintenance task, waits for its result and prints it."""

    help = (
        "Maintains the JWT key pairs, scopes and tokens through the Rust worker. Exit status:"
        " 0 done; health: 1 warning, 2 critical; 64 wrong options, 69 Redis unreachable,"
        " 70 the task failed, 75 no answer in time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        shared = ArgumentParser(add_help=False)
        shared.add_argument("--json", action="store_true", help="print one JSON object")
        shared.add_argument(
            "--timeout",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="how long to wait for the worker's result (60)",
        )
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")

        def action(name: str, run: Callable[..., Report], text: str) -> ArgumentParser:
            # Django's parser class would add its own options to each action again.
            added = actions.add_parser(
                name, help=text, parents=[shared], called_from_command_line=True
            )
            added.set_defaults(run=run)
            return added

        action("init", self._init, "create the default scopes, and a key pair if none is active")
        action("cleanup", self._cleanup, "revoke expired tokens, delete those revoked long ago")
        rotate = action("rotate", self._rotate, "make a new signing key pair if one is due")
        rotate.add_argument("--force", action="store_true", help="even if none is due")
        rotate.add_argument(
            "--retire-now",
            action="store_true",
            help="with --force: deactivate all older key pairs at once, for a key that has leaked;"
            " their tokens become invalid",
        )
        action("health", self._health, "count and judge; the exit status tells")
        action("status", self._status, "list key pairs, scopes and tokens; needs no worker")
        action("create-keypair", self._create_keypair, "make a new signing key pair now")
        action("create-scopes", self._create_scopes, "create the default scopes that are missing")
        action("cleanup-keypairs", self._cleanup_keypairs, "delete old, unused inactive key pairs")

    def handle(self, *args: Any, **options: Any) -> None:
        report = options["run"](options)
        if options["json"]:
            self.stdout.write(json.dumps(report.data))
        else:
            for line in report.lines:
                self.stdout.write(line)
        if report.exit_code:
            sys.exit(report.exit_code)

    def _init(self, options: dict[str, Any]) -> Report:
        scopes = self._create_scopes(options)
        if JWTKeyPair.objects.filter(is_active=True).exists():
            return Report(
                {"scopes": scopes.data, "keypair": None},
                [*scopes.lines, "A key pair is active already."],
            )
        rotation = self._run(tasks.rotate_jwt_keypairs, options)
        return Report(
            {"scopes": scopes.data, "keypair": rotation},
            [*scopes.lines, *self._rotation_lines(rotation)],
        )

    def _cleanup(self, options: dict[str, Any]) -> Report:
        result = self._run(tasks.cleanup_expired_tokens, options)
        return Report(
            result,
            [
                self.style.SUCCESS(
                    f"Revoked {result['expired_tokens_revoked']} expired tokens,"
                    f" deleted {result['old_tokens_deleted']} old ones."
                )
            ],
        )

    def _rotate(self, options: dict[str, Any]) -> Report:
        if options["retire_now"] and not options["force"]:
            raise CommandError("--retire-now needs --force", returncode=USAGE)
        arguments = {name: True for name in ("force", "retire_now") if options[name]}
        result = self._run(tasks.rotate_jwt_keypairs, options, **arguments)
        return Report(result, self._rotation_lines(result))

    def _health(self, options: dict[str, Any]) -> Report:
        result = self._run(tasks.generate_jwt_health_report, options)
        severity = result.get("severity") or (
            "ok" if result["health_status"] == "healthy" else "warning"
        )
        style = {"ok": self.style.SUCCESS, "critical": self.style.ERROR}.get(
            severity, self.style.WARNING
        )
        tokens, keypairs = result["tokens"], result["keypairs"]
        lines = [
            style(f"{result['health_status']} ({severity})"),
            f"Tokens: {tokens['total']} total, {tokens['active']} active,"
            f" {tokens['expired']} expired, {tokens['revoked']} revoked,"
            f" {tokens['recent_24h']} issued in the last 24 hours",
            f"Key pairs: {keypairs['active']} active, {keypairs['inactive']} inactive",
            f"Scopes: {result['scopes']['active']} active",
        ]
        lines += [f"- {_sentence(reason)}" for reason in result.get("reasons", [])]
        return Report(result, lines, HEALTH_EXIT_CODES[severity])

    def _status(self, options: dict[str, Any]) -> Report:
        now = timezone.now()
        keypairs = [
            {"name": name, "created_at": made.isoformat(), "age_days": (now - made).days}
            for name, made in JWTKeyPair.objects.filter(is_active=True)
            .order_by("-created_at", "-id")
            .values_list("name", "created_at")
        ]
        scopes = list(
            JWTScope.objects.filter(is_active=True).order_by("name").values("name", "description")
        )
        tokens = JWTToken.objects.aggregate(
            total=Count("id"),
            active=Count("id", filter=Q(is_revoked=False, expires_at__gt=now)),
        )
        inactive = JWTKeyPair.objects.filter(is_active=False).count()
        data = {
            "keypairs": {"active": keypairs, "inactive": inactive},
            "scopes": scopes,
            "tokens": tokens,
        }
        lines = [f"Active key pairs: {len(keypairs)}"]
        lines += [f"  {pair['name']}, {pair['age_days']} days old" for pair in keypairs]
        lines += [f"Inactive key pairs: {inactive}", f"Active scopes: {len(scopes)}"]
        lines += [f"  {scope['name']}: {scope['description']}" for scope in scopes]
        lines.append(f"Tokens: {tokens['total']} total, {tokens['active']} active")
        return Report(data, lines)

    def _create_keypair(self, options: dict[str, Any]) -> Report:
        result = self._run(tasks.rotate_jwt_keypairs, options, force=True)
        return Report(result, self._rotation_lines(result))

    def _create_scopes(self, options: dict[str, Any]) -> Report:
        result = self._run(tasks.initialize_jwt_scopes, options)
        created = result["created_scopes"]
        names = ", ".join(created) if isinstance(created, list) else created
        return Report(
            result,
            [
                self.style.SUCCESS(
                    f"Scopes created: {names or 'none was missing'};"
                    f" {result['total_active_scopes']} active."
                )
            ],
        )

    def _cleanup_keypairs(self, options: dict[str, Any]) -> Report:
        result = self._run(tasks.cleanup_inactive_keypairs, options)
        return Report(
            result,
            [self.style.SUCCESS(f"Deleted {result['keypairs_deleted']} inactive key pairs.")],
        )

    def _rotation_lines(self, result: dict[str, Any]) -> list[str]:
        active = f"{result['active_keypairs_count']} active key pairs"
        if result["action"] != "rotation_performed":
            return [f"No rotation is due; {active}."]
        lines = [self.style.SUCCESS(f"New key pair {result['new_keypair_id']}; {active}.")]
        if result.get("cap_exceeded"):
            lines.append(
                self.style.WARNING(
                    "More key pairs are active than JWT_MAX_ACTIVE_KEYPAIRS allows: unexpired"
                    " tokens still need them. A later rotation deactivates them."
                )
            )
        if result.get("orphaned_tokens"):
            lines.append(
                self.style.WARNING(
                    f"{result['orphaned_tokens']} unexpired tokens lost their key pair."
                )
            )
        return lines

    def _run(self, task: Task, options: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        """Sends `task` and returns its result; a `CommandError` says what went wrong."""
        try:
            sent = task.delay(**arguments)
        except Exception as error:
            if not _is_outage(error):
                raise
            raise CommandError(
                f"Redis cannot be reached, {task.name} was not sent: {_first_cause(error)}",
                returncode=UNAVAILABLE,
            ) from error
        call = f"{task.name} [{sent.id}]"
        try:
            result = sent.get(timeout=options["timeout"])
        except ResultTimeoutError as error:
            raise CommandError(
                f"no result of {call} within {options['timeout']:g} s. The task stays queued; is a"
                " Rust worker consuming its queue? See: jwt_manage queue status",
                returncode=NO_ANSWER,
            ) from error
        except Exception as error:
            if _is_outage(error):
                raise CommandError(
                    f"Redis cannot be reached; {call} was sent: {_first_cause(error)}",
                    returncode=UNAVAILABLE,
                ) from error
            raise CommandError(
                f"{call} failed: {type(error).__name__}: {error}", returncode=TASK_FAILED
            ) from error
        if result.get("success") is False:
            raise CommandError(f"{task.name} failed: {result.get('error')}", returncode=TASK_FAILED)
        return result


def _sentence(reason: Any) -> str:
    return reason.get("message") or reason.get("code") if isinstance(reason, dict) else str(reason)


def _is_outage(error: BaseException) -> bool:
    """Whether the broker or result backend is away, rather than the task having raised.

    Celery ends its reconnecting with a RuntimeError whose cause is the client's own error.
    """
    return isinstance(error, (OperationalError, RedisError)) or isinstance(
        error.__cause__, RedisError
    )


def _first_cause(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error.__cause__, RedisError) else error
