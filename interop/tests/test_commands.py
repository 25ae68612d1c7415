"""The operator's commands, in each of the ways in which they can be given."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from jwt_auth.models import JWTKeyPair, JWTScope, JWTToken

COMMANDS = [
    "init",
    "cleanup",
    "rotate",
    "health",
    "status",
    "create-keypair",
    "create-scopes",
    "cleanup-keypairs",
]
# Nothing listens on port 1.
NO_REDIS = "redis://127.0.0.1:1/0"


@pytest.fixture(params=["direct", "queue", "manage.py"])
def command(request, site):
    """Gives a command to the binary, to the binary through the queue, or to manage.py."""
    if request.param == "direct":
        # Proof that it needs no broker.
        return lambda *arguments: site.jwt_manage(*arguments, CELERY_BROKER_URL=NO_REDIS)
    site.worker()
    if request.param == "queue":
        return lambda *arguments: site.jwt_manage(*arguments, *through_the_queue(arguments))
    return lambda *arguments: site.manage_py("jwt_manage", *arguments)


def through_the_queue(arguments):
    # The tables are read directly whatever the way: no task lists them.
    return [] if arguments[0] == "status" else ["--queue"]


def done(completed):
    """Its JSON; fails with what it said where it did not succeed."""
    assert completed.status == 0, completed.stdout + completed.stderr
    return completed.json()


def test_init_prepares_a_site_and_changes_nothing_the_second_time(command):
    for _ in range(2):
        done(command("init", "--json"))

        assert JWTScope.objects.filter(is_active=True).count() == 4
        assert JWTKeyPair.objects.filter(is_active=True).count() == 1


def test_create_scopes_reports_what_it_created(command):
    result = done(command("create-scopes", "--json"))

    assert result["success"] is True
    assert result["total_active_scopes"] == JWTScope.objects.count() == 4


def test_create_keypair_makes_one_each_time(command):
    for number in [1, 2]:
        done(command("create-keypair", "--json"))

        assert JWTKeyPair.objects.filter(is_active=True).count() == number


def test_rotate_makes_a_key_pair_when_due_or_forced(command):
    actions = [
        done(command("rotate", *arguments, "--json"))["action"]
        for arguments in [[], [], ["--force"]]
    ]

    assert actions == ["rotation_performed", "rotation_not_needed", "rotation_performed"]
    assert JWTKeyPair.objects.filter(is_active=True).count() == 2


def test_rotate_can_retire_the_older_ones_at_once(command):
    done(command("rotate", "--json"))
    done(command("rotate", "--force", "--retire-now", "--json"))

    assert JWTKeyPair.objects.filter(is_active=True).count() == 1
    assert JWTKeyPair.objects.count() == 2


def test_cleanup_revokes_what_has_expired(command):
    done(command("create-keypair", "--json"))
    JWTToken.objects.create(
        user=User.objects.create(username="ada"),
        key_pair=JWTKeyPair.objects.get(),
        token_id="expired",  # noqa: S106  (a name, no password)
        expires_at=timezone.now() - timedelta(days=1),
    )

    result = done(command("cleanup", "--json"))

    assert (result["expired_tokens_revoked"], result["old_tokens_deleted"]) == (1, 0)
    assert JWTToken.objects.get().is_revoked


def test_cleanup_keypairs_deletes_old_inactive_ones(command):
    JWTKeyPair.objects.create(
        name="old",
        private_key_pem="x",
        public_key_pem="x",
        is_active=False,
        created_at=timezone.now() - timedelta(days=200),
    )

    assert done(command("cleanup-keypairs", "--json"))["keypairs_deleted"] == 1
    assert not JWTKeyPair.objects.exists()


def test_health_tells_by_its_exit_status(command):
    sick = command("health", "--json")
    done(command("init", "--json"))
    well = command("health", "--json")

    assert (sick.status, sick.json()["severity"]) == (2, "critical")
    assert (well.status, well.json()["severity"]) == (0, "ok")


def test_status_shows_key_pairs_scopes_and_tokens(command):
    done(command("init", "--json"))
    JWTKeyPair.objects.update(created_at=timezone.now() - timedelta(days=12, hours=1))
    key_pair = JWTKeyPair.objects.get()

    done(command("status", "--json"))
    text = command("status").stdout

    assert key_pair.name in text
    assert "12 days" in text
    for scope in JWTScope.objects.all():
        assert scope.name in text
        assert scope.description in text


def test_no_command_shows_a_private_key(command):
    done(command("init", "--json"))

    for name in COMMANDS:
        for arguments in [[name], [name, "--json"]]:
            completed = command(*arguments)
            assert completed.status == 0, completed.stdout + completed.stderr
            assert "PRIVATE" not in completed.stdout + completed.stderr


class TestWithoutAWorker:
    """Through the queue while nobody answers: said soon and clearly, with an exit status."""

    @pytest.fixture
    def engine(self):
        return "sqlite"

    def test_no_answer_in_time(self, site):
        binary = site.jwt_manage("rotate", "--queue", "--timeout", "1")
        python = site.manage_py("jwt_manage", "rotate", "--timeout", "1")

        assert binary.status == python.status == 75
        for completed in [binary, python]:
            assert "Traceback" not in completed.stderr
            assert "jwt_auth.tasks.rotate_jwt_keypairs" in completed.stderr

    def test_no_broker(self, site):
        binary = site.jwt_manage("rotate", "--queue", CELERY_BROKER_URL=NO_REDIS)
        python = site.manage_py(
            "jwt_manage", "rotate", CELERY_BROKER_URL=NO_REDIS, CELERY_RESULT_BACKEND=NO_REDIS
        )

        assert binary.status == python.status == 69
        for completed in [binary, python]:
            assert "Traceback" not in completed.stderr
            assert "Redis" in completed.stderr


def test_queue_status_shows_what_waits_and_who_works(app, programs, redis):
    for priority in [0, 0, 9]:
        app.send_task("bench.noop", priority=priority)

    before = programs.jwt_manage("queue", "status", "--json")
    text = programs.jwt_manage("queue", "status")

    assert before.json()
    assert "celery" in text.stdout
    programs.interop_worker("-n", "inspected@interop")
    app.send_task("bench.noop").get(timeout=30)
    assert "inspected@interop" in programs.jwt_manage("queue", "status").stdout
