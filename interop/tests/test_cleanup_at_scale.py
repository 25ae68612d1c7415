# ruff: noqa: S608  (numbers of this file, no input)
"""A cleanup of many tokens: it tells how far it is, ends in time, and may be killed anywhere."""

import contextlib
import os
import pty
import subprocess
from datetime import timedelta

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection
from django.utils import timezone

from jwt_auth.models import JWTScope, JWTToken
from jwt_auth.tasks import cleanup_expired_tokens
from key_pairs import made_in_python
from programs import binary
from waiting import until

COUNT = 240_000
OLD = 6_000


@pytest.fixture
def tokens(database_url):
    """Many expired tokens, some revoked long ago that have a scope, and one that is valid."""
    from django.contrib.auth.models import User

    user = User.objects.create(username="ada")
    key_pair = made_in_python("ES256")
    scope = JWTScope.objects.create(name="base")
    expired, old = (timezone.now() - timedelta(days=days) for days in [1, 100])
    numbers = (
        f"SELECT n FROM generate_series(1, {COUNT}) AS series(n)"
        if connection.vendor == "postgresql"
        else "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series"
        f" WHERE n < {COUNT}) SELECT n FROM series"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO jwt_auth_jwttoken (token_id, created_at, issued_at, expires_at,"
            " is_revoked, revoked_at, purpose, key_pair_id, user_id)"
            f" SELECT 'jti-' || n, %s, %s, CASE WHEN n <= {OLD} THEN %s ELSE %s END, n <= {OLD},"
            f" CASE WHEN n <= {OLD} THEN %s END, '', %s, %s FROM ({numbers}) AS numbers",
            [old, old, old, expired, old, key_pair.pk, user.pk],
        )
        cursor.execute(
            "INSERT INTO jwt_auth_jwttoken_scopes (jwttoken_id, jwtscope_id)"
            " SELECT id, %s FROM jwt_auth_jwttoken WHERE is_revoked",
            [scope.pk],
        )
    valid = JWTToken.objects.create(
        user=user,
        key_pair=key_pair,
        token_id="valid",  # noqa: S106  (a name, no password)
        expires_at=timezone.now() + timedelta(days=1),
    )
    valid.scopes.set([scope])


def revoked():
    return JWTToken.objects.filter(is_revoked=True).count()


def assert_all_is_done():
    assert revoked() == JWTToken.objects.count() - 1 == COUNT - OLD
    assert JWTToken.scopes.through.objects.count() == 1
    assert not JWTToken.objects.get(token_id="valid").is_revoked  # noqa: S106


def test_it_tells_how_far_it_is_and_goes_on_after_its_worker_was_killed(site, tokens):
    lease = {"WORKER_LEASE_SECONDS": "2"}
    worker = site.worker("-c", "1", **lease)

    sent = cleanup_expired_tokens.delay()

    def told():
        # State and result of one and the same answer.
        meta = sent.backend.get_task_meta(sent.id)
        return meta["result"] if meta["status"] == "PROGRESS" else None

    progress = until(told, "the cleanup tells how far it is")
    assert 0 < progress["percent"] <= 100
    assert progress["total"] == COUNT
    assert progress["revoked"] > 0
    worker.kill()
    done_before = revoked() - OLD
    assert done_before > 0
    site.worker("-c", "1", **lease)
    result = sent.get(timeout=120)
    assert result["success"] is True
    assert result["expired_tokens_revoked"] <= COUNT - OLD - done_before
    assert_all_is_done()
    assert cleanup_expired_tokens.delay().get(timeout=60)["expired_tokens_revoked"] == 0


def test_it_ends_at_its_soft_time_limit_and_the_next_run_goes_on(site, tokens):
    site.worker("-c", "1")

    limited = cleanup_expired_tokens.apply_async(soft_time_limit=0.3)

    with pytest.raises(SoftTimeLimitExceeded):
        limited.get(timeout=60)
    first = revoked() - OLD
    assert 0 < first < COUNT - OLD
    result = cleanup_expired_tokens.delay().get(timeout=120)
    assert result["expired_tokens_revoked"] == COUNT - OLD - first
    assert_all_is_done()


def test_a_terminal_shows_a_bar_and_a_log_does_not(site, tokens):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [binary("jwt_manage"), "cleanup"],
        env=site.env | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as cleanup:
        os.close(theirs)
        shown = b""
        # A terminal whose last writer is gone is an error to read from.
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                shown += part
        assert cleanup.stdout.read().startswith(f"Revoked {COUNT - OLD} expired tokens")
    os.close(ours)
    assert cleanup.returncode == 0

    shown = shown.decode()
    assert f"% of {COUNT} tokens: " in shown
    assert " revoked, " in shown
    assert "left" in shown
    assert "%" not in site.jwt_manage("cleanup").stderr
