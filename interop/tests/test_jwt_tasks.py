"""The five tasks: Django sends them, the Rust worker does them on Django's tables."""

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from jwt_auth.models import JWTKeyPair, JWTScope, JWTToken
from jwt_auth.tasks import (
    cleanup_expired_tokens,
    cleanup_inactive_keypairs,
    generate_jwt_health_report,
    initialize_jwt_scopes,
    rotate_jwt_keypairs,
)
from key_pairs import made_in_python

DEFAULT_SCOPES = {
    "base": "Basic access to authenticated endpoints",
    "image_upload": "Permission to upload images and media files",
    "event_management": "Permission to create and manage events",
    "admin": "Full administrative access",
}


def run(task, *args, **kwargs):
    return task.delay(*args, **kwargs).get(timeout=60)


def age(model, days, **rows):
    """Makes the rows as old as if they had been created that many days ago."""
    model.objects.filter(**rows).update(created_at=timezone.now() - timedelta(days=days))


@pytest.fixture
def worker(site):
    return site.worker("-c", "2")


@pytest.fixture
def user(database_url):
    return User.objects.create(username="ada")


@pytest.fixture
def key_pair(worker):
    """The one active key pair, made by the worker."""
    run(rotate_jwt_keypairs)
    return JWTKeyPair.objects.get()


def token(user, key_pair, name, *, expires_in, revoked_ago=None):
    now = timezone.now()
    return JWTToken.objects.create(
        user=user,
        key_pair=key_pair,
        token_id=name,
        expires_at=now + expires_in,
        is_revoked=revoked_ago is not None,
        revoked_at=None if revoked_ago is None else now - revoked_ago,
    )


def assert_recent(text):
    moment = datetime.fromisoformat(text)
    assert moment.utcoffset() == timedelta(0)
    assert text.endswith("+00:00")
    assert abs(timezone.now() - moment) < timedelta(minutes=2)


def test_the_default_scopes_are_created_once(worker):
    first = run(initialize_jwt_scopes)
    second = run(initialize_jwt_scopes)

    assert first["success"] is True
    assert first["total_active_scopes"] == 4
    assert_recent(first["initialization_time"])
    assert dict(JWTScope.objects.values_list("name", "description")) == DEFAULT_SCOPES
    assert not second["created_scopes"]
    assert second["total_active_scopes"] == 4


def test_an_existing_scope_is_left_as_it_is(worker):
    JWTScope.objects.create(name="base", description="ours", is_active=False)

    result = run(initialize_jwt_scopes)

    base = JWTScope.objects.get(name="base")
    assert (base.description, base.is_active) == ("ours", False)
    assert result["total_active_scopes"] == 3


def test_the_first_rotation_makes_a_key_pair_and_the_second_none(worker):
    first = run(rotate_jwt_keypairs)
    second = run(rotate_jwt_keypairs)

    assert first["success"] is True
    assert first["action"] == "rotation_performed"
    assert isinstance(first["new_keypair_id"], str)
    assert first["active_keypairs_count"] == 1
    assert_recent(first["rotation_time"])
    assert second["action"] == "rotation_not_needed"
    assert_recent(second["check_time"])
    made = JWTKeyPair.objects.get()
    assert made.is_active
    assert abs(timezone.now() - made.created_at) < timedelta(minutes=2)


@pytest.mark.parametrize(
    ("days_old", "action"), [(29, "rotation_not_needed"), (31, "rotation_performed")]
)
def test_a_rotation_is_due_when_the_newest_key_pair_is_a_period_old(worker, days_old, action):
    made_in_python("ES256", name="older", days_old=400)
    made_in_python("ES256", name="newest", days_old=days_old)

    assert run(rotate_jwt_keypairs)["action"] == action


@pytest.mark.parametrize("argument", [(True,), {"force": True}], ids=["by place", "by name"])
def test_a_forced_rotation_needs_no_due_date(worker, key_pair, argument):
    result = (
        run(rotate_jwt_keypairs, **argument)
        if isinstance(argument, dict)
        else run(rotate_jwt_keypairs, *argument)
    )

    assert result["action"] == "rotation_performed"
    assert result["active_keypairs_count"] == 2


def test_retiring_at_once_leaves_only_the_new_key_pair(worker, key_pair):
    run(rotate_jwt_keypairs, force=True, retire_now=True)

    active = JWTKeyPair.objects.get(is_active=True)
    assert active.pk != key_pair.pk


def test_expired_tokens_are_revoked_and_old_ones_deleted(worker, key_pair, user):
    run(initialize_jwt_scopes)
    days = timedelta(days=1)
    valid = token(user, key_pair, "valid", expires_in=days)
    expired = token(user, key_pair, "expired", expires_in=-days)
    old = token(user, key_pair, "old", expires_in=-100 * days, revoked_ago=95 * days)
    recent = token(user, key_pair, "recent", expires_in=-100 * days, revoked_ago=80 * days)
    unexpired = token(user, key_pair, "unexpired", expires_in=days, revoked_ago=95 * days)
    for each in [valid, expired, old]:
        each.scopes.set(JWTScope.objects.all())

    result = run(cleanup_expired_tokens)

    assert result["success"] is True
    assert result["expired_tokens_revoked"] == 1
    assert result["old_tokens_deleted"] == 1
    assert_recent(result["cleanup_time"])
    expired.refresh_from_db()
    assert expired.is_revoked
    assert_recent(expired.revoked_at.isoformat())
    valid.refresh_from_db()
    assert not valid.is_revoked
    # Deleting a revoked token before it expires would make it valid again.
    assert set(JWTToken.objects.values_list("token_id", flat=True)) == {
        "valid",
        "expired",
        recent.token_id,
        unexpired.token_id,
    }
    assert valid.scopes.count() == 4


def test_old_inactive_key_pairs_without_tokens_are_deleted(worker, key_pair, user):
    def inactive(name, days):
        made = JWTKeyPair.objects.create(
            name=name, private_key_pem="x", public_key_pem="x", is_active=False
        )
        age(JWTKeyPair, days, name=name)
        return made

    inactive("old and unused", 200)
    inactive("young", 100)
    token(user, inactive("old and used", 200), "t", expires_in=timedelta(days=-1))

    result = run(cleanup_inactive_keypairs)

    assert result["success"] is True
    assert result["keypairs_deleted"] == 1
    assert_recent(result["cleanup_time"])
    left = set(JWTKeyPair.objects.values_list("name", flat=True))
    assert left == {key_pair.name, "young", "old and used"}


def test_the_health_report_counts_what_django_counts(worker, key_pair, user):
    run(initialize_jwt_scopes)
    token(user, key_pair, "valid", expires_in=timedelta(hours=1))
    token(user, key_pair, "expired", expires_in=timedelta(hours=-1))
    token(user, key_pair, "revoked", expires_in=timedelta(hours=1), revoked_ago=timedelta(hours=1))
    age(JWTToken, 2, token_id="revoked")  # noqa: S106  (a name, no password)

    report = run(generate_jwt_health_report)

    now = timezone.now()
    assert report["tokens"] == {
        "total": JWTToken.objects.count(),
        "active": JWTToken.objects.filter(expires_at__gt=now, is_revoked=False).count(),
        "expired": JWTToken.objects.filter(expires_at__lt=now).count(),
        "revoked": JWTToken.objects.filter(is_revoked=True).count(),
        "recent_24h": JWTToken.objects.filter(created_at__gt=now - timedelta(days=1)).count(),
    }
    assert report["keypairs"] == {"active": 1, "inactive": 0, "total": 1}
    assert report["scopes"]["active"] == 4
    assert report["health_status"] == "healthy"
    assert report["severity"] == "ok"
    assert_recent(report["timestamp"])
    assert "PRIVATE" not in str(report)


def test_a_site_without_a_key_pair_is_in_a_critical_state(worker):
    report = run(generate_jwt_health_report)

    assert report["health_status"] == "warning"
    assert report["severity"] == "critical"
    assert report["reasons"]


def test_eight_rotations_at_once_make_one_key_pair(site):
    for _ in range(2):
        site.worker("-c", "4")

    sent = [rotate_jwt_keypairs.delay() for _ in range(8)]
    actions = [result.get(timeout=60)["action"] for result in sent]

    assert sorted(actions) == ["rotation_not_needed"] * 7 + ["rotation_performed"]
    assert JWTKeyPair.objects.count() == 1
