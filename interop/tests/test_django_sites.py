"""Sites that are made otherwise: UUID keys, a user model of their own, columns that are not there;
and Django's admin and ORM on rows that we wrote."""

import json
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.forms.models import model_to_dict
from django.test import Client
from django.utils import timezone

from jwt_auth import tokens
from jwt_auth.models import JWTKeyPair, JWTScope, JWTToken
from jwt_auth.tasks import (
    cleanup_expired_tokens,
    cleanup_inactive_keypairs,
    generate_jwt_health_report,
    initialize_jwt_scopes,
    rotate_jwt_keypairs,
)
from programs import CHECKOUT

# Run on the other site, with its models at hand; prints JSON.
PRELUDE = """
import json, sys, django
django.setup()
from datetime import timedelta
from django.apps import apps
from django.contrib.auth import get_user_model
from django.utils import timezone
KeyPair, Scope, Token = (
    apps.get_model("jwt_auth", name) for name in ["JWTKeyPair", "JWTScope", "JWTToken"]
)
arguments = json.loads(sys.argv[1])
"""


class OtherSite:
    """A Django process of the other site, and our programs on its database."""

    def __init__(self, programs, url, app):
        self.programs = programs
        paths = [CHECKOUT / "interop" / "sites", CHECKOUT / "python" / "example"]
        self.env = programs.env | {
            "DATABASE_URL": url,
            "JWT_APP": app,
            "DJANGO_SETTINGS_MODULE": "other_site.settings",
            "PYTHONPATH": ":".join(map(str, paths)),
        }
        programs.env["DATABASE_URL"] = url

    def run(self, *arguments):
        done = subprocess.run(
            [sys.executable, *arguments], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, code, **arguments):
        return json.loads(self.run("-c", PRELUDE + code, json.dumps(arguments)))

    def command(self, *arguments):
        done = self.programs.jwt_manage(*arguments, "--json")
        assert done.status == 0, done.stderr
        return done.json()


@pytest.fixture
def other_url(request, engine, folder):
    """A database in which nothing is yet."""
    if engine == "sqlite":
        return f"sqlite://{folder / request.node.name}.sqlite3"
    server = request.getfixturevalue("postgres_server")
    return server.url(server.create_database())


@pytest.fixture(params=["own", "package"])
def other_site(request, app, programs, other_url):
    """The other site, with an app of its own or with that of python/; migrated by both sides."""
    site = OtherSite(programs, other_url, request.param)
    site.run("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0")
    site.command("migrate")
    return site


def run(task, **arguments):
    return task.delay(**arguments).get(timeout=60)


def test_every_task_and_command_serves_a_site_with_uuids(other_site):
    app = other_site.env["JWT_APP"]
    check = other_site.command("check")
    assert check["key_pair_ids"] == ("uuid" if app == "own" else "integer")
    assert check["key_pair_name"] is (app == "package")
    assert check["token_revoked_at"] is (app == "package")
    other_site.programs.worker()

    assert run(initialize_jwt_scopes)["total_active_scopes"] == 4
    first = run(rotate_jwt_keypairs)
    second = run(rotate_jwt_keypairs, force=True)
    person = other_site.python(
        "person = get_user_model().objects.create(email='ada@example.org');"
        "print(json.dumps(str(person.pk)))"
    )
    issued = other_site.command("token", "issue", "--user", person, "--scope", "base")

    seen = other_site.python(
        """
pairs = list(KeyPair.objects.order_by("created_at"))
token = Token.objects.get(token_id=arguments["jti"])
token.full_clean(); token.save()
for pair in pairs:
    pair.full_clean(); pair.save()
made = dict(user=token.user, key_pair=pairs[0], expires_at=timezone.now() - timedelta(days=1))
Token.objects.create(token_id="expired", **made)
gone = Token.objects.create(token_id="old", is_revoked=True,
                            **made | {"expires_at": timezone.now() - timedelta(days=100)})
gone.scopes.set(Scope.objects.all())
if hasattr(gone, "revoked_at"):
    gone.revoked_at = gone.expires_at; gone.save()
print(json.dumps({
    "ids": [str(pair.pk) for pair in pairs], "active": [pair.is_active for pair in pairs],
    "user": str(token.user.pk), "signer": str(token.key_pair.pk),
    "scopes": [scope.name for scope in token.scopes.all()],
    "life": (token.expires_at - timezone.now()).total_seconds(),
}))
""",
        jti=issued["jti"],
    )
    assert seen["ids"] == [first["new_keypair_id"], second["new_keypair_id"]]
    assert seen["active"] == [True, True]
    assert (seen["user"], seen["signer"]) == (person, second["new_keypair_id"])
    assert seen["scopes"] == ["base"]
    assert 23 * 3600 < seen["life"] <= 24 * 3600

    cleaned = run(cleanup_expired_tokens)
    assert (cleaned["expired_tokens_revoked"], cleaned["old_tokens_deleted"]) == (1, 1)
    assert run(cleanup_inactive_keypairs)["keypairs_deleted"] == 0
    assert run(generate_jwt_health_report)["severity"] == "ok"
    left = other_site.python(
        "print(json.dumps(sorted(Token.objects.values_list('token_id', 'is_revoked'))))"
    )
    assert left == sorted([["expired", True], [issued["jti"], False]])
    row = other_site.command("token", "inspect", "--jti", issued["jti"])["token"]
    assert (row["user"], row["scopes"]) == (person, ["base"])
    other_site.command("token", "revoke", "--jti", issued["jti"])
    assert len(other_site.command("jwks")["keys"]) == 2
    assert (
        other_site.python("print(json.dumps(Token.objects.filter(is_revoked=True).count()))") == 2
    )


@pytest.mark.parametrize("other_site", ["package"], indirect=True)
def test_a_user_of_another_model_is_one_in_python_s_tokens_too(other_site, tmp_path):
    other_site.env["JWT_PRIVATE_KEY_PASSWORD"] = "correct horse"  # noqa: S105
    other_site.programs.env["JWT_PRIVATE_KEY_PASSWORD"] = "correct horse"  # noqa: S105
    other_site.command("init")
    made = other_site.python(
        """
from jwt_auth import tokens
person = get_user_model().objects.create(email="ada@example.org")
token = tokens.issue(person, ["base"])
print(json.dumps({"person": str(person.pk), "token": token, "encrypted":
    "ENCRYPTED" in KeyPair.objects.get().private_key_pem}))
"""
    )
    assert made["encrypted"]
    path = tmp_path / "token"
    path.write_text(made["token"])

    verdict = other_site.command("token", "verify", str(path), "--scope", "base")

    assert verdict["claims"]["sub"] == made["person"]
    issued = other_site.command("token", "issue", "--user", made["person"])
    claims = other_site.python(
        "from jwt_auth import tokens; print(json.dumps(tokens.verify(arguments['token'])))",
        token=issued["token"],
    )
    assert (claims["sub"], claims["jti"]) == (made["person"], issued["jti"])
    unknown = other_site.programs.jwt_manage(
        "token", "issue", "--user", "00000000-0000-4000-8000-000000000000"
    )
    assert unknown.status == 70
    assert "there is no user 00000000" in unknown.stderr
    assert other_site.programs.jwt_manage("token", "issue", "--user", "7").status == 70


@pytest.fixture
def admin(database_url, settings):
    settings.SECRET_KEY = "of a test"  # noqa: S105
    User.objects.create_superuser("root", password="x")  # noqa: S106
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get())
    return client


def test_the_admin_shows_our_rows_and_no_private_key(site, admin):
    site.jwt_manage("init")
    site.jwt_manage("rotate", "--force", "--retire-now")
    user = User.objects.get()
    issued = site.jwt_manage("token", "issue", "--user", str(user.pk), "--scope", "base", "--json")
    token = JWTToken.objects.get(token_id=issued.json()["jti"])

    for model, rows in [
        ("jwtkeypair", JWTKeyPair.objects.all()),
        ("jwtscope", JWTScope.objects.all()),
        ("jwttoken", [token]),
    ]:
        listed = admin.get(f"/admin/jwt_auth/{model}/")
        assert listed.status_code == 200
        for row in rows:
            assert str(row) in listed.content.decode()
            shown = admin.get(f"/admin/jwt_auth/{model}/{row.pk}/change/")
            assert shown.status_code == 200
            assert "PRIVATE KEY" not in shown.content.decode()
    assert admin.post(f"/admin/jwt_auth/jwttoken/{token.pk}/delete/").status_code == 403
    chosen = {"action": "revoke_tokens", "_selected_action": [token.pk]}
    assert admin.post("/admin/jwt_auth/jwttoken/", chosen).status_code == 302
    token.refresh_from_db()
    assert token.is_revoked


def test_the_orm_reads_and_writes_our_rows_as_its_own(site, database_url):
    site.jwt_manage("init")
    user = User.objects.create(username="ada")
    issued = site.jwt_manage(
        *["token", "issue", "--user", str(user.pk), "--scope", "base", "--json"]
    ).json()
    for row in [JWTKeyPair.objects.get(), JWTToken.objects.get(), *JWTScope.objects.all()]:
        before = model_to_dict(row) | {"created_at": row.created_at}
        row.full_clean()
        row.save()
        row.refresh_from_db()
        assert model_to_dict(row) | {"created_at": row.created_at} == before
    token = JWTToken.objects.select_related("user", "key_pair").get(scopes__name="base")
    assert (token.user, token.key_pair.name) == (user, issued["kid"])
    # Django orders and compares times that we wrote among those that it wrote.
    other = tokens.issue(user, expires_in=timedelta(hours=1))
    mine = tokens.verify(other)["jti"]
    order = JWTToken.objects.order_by("expires_at").values_list("token_id", flat=True)
    assert list(order) == [mine, issued["jti"]]
    assert JWTToken.objects.filter(issued_at__lte=timezone.now()).count() == 2
    user.delete()
    assert not JWTToken.objects.exists()
    assert not JWTToken.scopes.through.objects.exists()
    # What Django counts up goes on where we left it.
    scope = JWTScope.objects.create(name="later")
    assert scope.pk > JWTScope.objects.exclude(pk=scope.pk).order_by("pk").last().pk


def test_both_sides_write_at_once(site, database_url):
    """On SQLite there is one writer at a time: each waits for the other, and nobody fails."""
    site.jwt_manage("init")
    user = User.objects.create(username="ada")
    failures = []

    def issue_and_revoke():
        try:
            for _ in range(25):
                tokens.revoke(tokens.issue(user, ["base"]))
                tokens.issue(user, expires_in=timedelta(seconds=1))
        except Exception as error:  # noqa: BLE001  (told below, by the thread that can)
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=issue_and_revoke) for _ in range(3)]
    for thread in threads:
        thread.start()
    rounds = 0
    while any(thread.is_alive() for thread in threads) or rounds < 3:
        rounds += 1
        for line in [
            ["cleanup"],
            ["rotate", "--force"],
            ["token", "issue", "--user", str(user.pk)],
        ]:
            done = site.jwt_manage(*line)
            assert done.status == 0, done.stderr
    for thread in threads:
        thread.join()

    assert failures == []
    assert JWTToken.objects.count() == 3 * 50 + rounds
    assert JWTKeyPair.objects.count() == 1 + rounds
    assert connection.vendor in database_url or connection.vendor == "postgresql"
