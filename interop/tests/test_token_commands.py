"""`jwt_manage token`: Python accepts what it issues, and both refuse the same."""

import json
import time
from datetime import timedelta

import jwt
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from jwt_auth import tokens
from jwt_auth.models import JWTKeyPair, JWTScope, JWTToken
from key_pairs import made_in_python


@pytest.fixture
def user(database_url):
    return User.objects.create(username="ada")


@pytest.fixture
def key_pair(user):
    return made_in_python("ES256")


@pytest.fixture
def scopes(user):
    return [JWTScope.objects.create(name=name, description=name) for name in ["base", "admin"]]


class Tokens:
    """`jwt_manage token …`; a token is given in a file."""

    def __init__(self, site, folder):
        self._site = site
        self._file = folder / "token"

    def run(self, action, *arguments, token=None, **env):
        if token is not None:
            self._file.write_text(token)
            arguments = [str(self._file), *arguments]
        return self._site.jwt_manage("token", action, *arguments, "--json", **env)

    def issue(self, *arguments, **env):
        done = self.run("issue", *arguments, **env)
        assert done.status == 0, done.stderr
        return done.json()

    def verdict(self, token, *arguments, **env):
        done = self.run("verify", *arguments, token=token, **env)
        assert done.status in (0, 1), done.stderr
        verdict = done.json()
        assert verdict["valid"] == (done.status == 0)
        assert verdict["valid"] == (not verdict["reasons"])
        return verdict

    def codes(self, token, *arguments, **env):
        return [reason["code"] for reason in self.verdict(token, *arguments, **env)["reasons"]]


@pytest.fixture
def commands(site, tmp_path):
    return Tokens(site, tmp_path)


def python_accepts(token, **arguments):
    try:
        tokens.verify(token, **arguments)
    except tokens.InvalidTokenError:
        return False
    return True


def signed(key_pair, claims, algorithm="ES256", **header):
    header = {"kid": key_pair.name} | header
    return jwt.encode(claims, key_pair.private_key_pem, algorithm=algorithm, headers=header)


@pytest.mark.parametrize("password", ["", "correct horse"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256"])
def test_python_accepts_what_is_issued(commands, settings, user, scopes, algorithm, password):
    settings.JWT_PRIVATE_KEY_PASSWORD = password
    made_in_python(algorithm, password)

    issued = commands.issue(
        *["--user", str(user.pk), "--scope", "base", "--purpose", "a test", "--expires-in", "2"],
        JWT_PRIVATE_KEY_PASSWORD=password,
    )

    claims = tokens.verify(issued["token"], scopes=["base"])
    assert claims["sub"] == str(user.pk)
    assert claims["exp"] - claims["iat"] == 7200
    row = JWTToken.objects.get(token_id=claims["jti"])
    assert (row.user, row.purpose, row.is_revoked) == (user, "a test", False)
    assert [scope.name for scope in row.scopes.all()] == ["base"]
    assert row.issued_at.timestamp() == claims["iat"]
    assert row.expires_at.timestamp() == claims["exp"]
    assert abs(row.created_at - timezone.now()) < timedelta(minutes=2)
    # The same claims in the same form as those that Python issues.
    python = jwt.decode(tokens.issue(user, ["base"]), options={"verify_signature": False})
    assert {name: type(value) for name, value in python.items()} == {
        name: type(value) for name, value in claims.items()
    }


def test_issuer_audience_and_lives_are_the_site_s(commands, settings, user, key_pair):
    settings.JWT_ISSUER, settings.JWT_AUDIENCE = "https://a.example", "shop"
    env = {"JWT_ISSUER": "https://a.example", "JWT_AUDIENCE": "shop"}
    person = ["--user", str(user.pk)]

    ours = commands.issue(*person, JWT_DEFAULT_EXPIRY_HOURS="3", **env)["token"]

    claims = tokens.verify(ours)
    assert (claims["iss"], claims["aud"]) == ("https://a.example", "shop")
    assert claims["exp"] - claims["iat"] == 3 * 3600
    assert commands.codes(tokens.issue(user), **env) == []
    assert commands.codes(ours) == ["wrong_audience"]
    other = {"JWT_ISSUER": "https://b.example", "JWT_AUDIENCE": "b"}
    assert commands.codes(ours, **other) == ["wrong_issuer", "wrong_audience"]
    too_long = commands.run("issue", *person, "--expires-in", "169")
    assert too_long.status == 70
    assert "168 hours (JWT_MAX_EXPIRY_HOURS), not 169" in too_long.stderr
    wrong = commands.run("issue", *person, JWT_DEFAULT_EXPIRY_HOURS="200")
    assert wrong.status == 78
    assert "JWT_DEFAULT_EXPIRY_HOURS" in wrong.stderr


def test_what_cannot_be_issued_is_refused_and_nothing_is_recorded(commands, user, key_pair, scopes):
    JWTScope.objects.filter(name="admin").update(is_active=False)
    for arguments, words in [
        (["--user", "4711"], "there is no user 4711"),
        (["--user", "ada"], '"ada" cannot be the key of a user'),
        (["--user", str(user.pk), "--scope", "admin", "--scope", "x"], "active scope: admin, x"),
    ]:
        done = commands.run("issue", *arguments)
        assert (done.status, done.stdout) == (70, "")
        assert words in done.stderr
    dry = commands.run("issue", "--user", str(user.pk), "--dry-run").json()
    assert (dry["dry_run"], dry["token"], dry["jti"]) == (True, None, None)
    JWTKeyPair.objects.update(is_active=False)
    done = commands.run("issue", "--user", str(user.pk))
    assert done.status == 70
    assert "no key pair is active" in done.stderr
    assert not JWTToken.objects.exists()


def test_a_private_key_that_cannot_be_opened_issues_nothing(commands, user):
    made_in_python("ES256", "correct horse")

    for env in [{}, {"JWT_PRIVATE_KEY_PASSWORD": "battery staple"}]:
        done = commands.run("issue", "--user", str(user.pk), **env)

        assert (done.status, done.stdout) == (70, "")
        assert "JWT_PRIVATE_KEY_PASSWORD" in done.stderr
        assert "battery" not in done.stderr


def good_at(now):
    return {"jti": "j", "sub": "1", "iat": now - 60, "exp": now + 3600, "scopes": ["base"]}


GOOD = good_at(int(time.time()))


def claims_at(now):
    """Claims, and the reasons for which a token with them is refused.

    Made at the judgment: "in a minute" would be past where they were made at
    the start of a suite.
    """
    good = good_at(now)
    return {
        "good": (good, []),
        "no scopes": ({k: v for k, v in good.items() if k != "scopes"}, []),
        "expired": (good | {"exp": now - 1}, ["expired"]),
        "expired by a fraction": (good | {"exp": now - 0.5}, ["expired"]),
        "expired as text": (good | {"exp": str(now - 1)}, ["expired"]),
        "exp as text": (good | {"exp": str(now + 60)}, []),
        "exp as a fraction": (good | {"exp": now + 60.5}, []),
        "exp beyond the calendar": (good | {"exp": 10**15}, []),
        "exp is a word": (good | {"exp": "tomorrow"}, ["invalid_claim"]),
        "exp is a list": (good | {"exp": [now + 60]}, ["invalid_claim"]),
        "no exp": ({k: v for k, v in good.items() if k != "exp"}, ["missing_claim"]),
        "no sub": ({k: v for k, v in good.items() if k != "sub"}, ["missing_claim"]),
        "no iat": ({k: v for k, v in good.items() if k != "iat"}, ["missing_claim"]),
        "no jti": ({k: v for k, v in good.items() if k != "jti"}, ["missing_claim"]),
        "sub is null": (good | {"sub": None}, ["missing_claim"]),
        "iat to come": (good | {"iat": now + 3000}, ["not_yet_valid"]),
        "nbf to come": (good | {"nbf": now + 3000}, ["not_yet_valid"]),
        "nbf has come": (good | {"nbf": now - 1}, []),
        "nbf is a word": (good | {"nbf": "now"}, ["invalid_claim"]),
        "for an audience": (good | {"aud": "shop"}, ["wrong_audience"]),
        "for an empty audience": (good | {"aud": ""}, []),
        "for no audience": (good | {"aud": []}, []),
        "for audiences": (good | {"aud": ["shop", "b"]}, ["wrong_audience"]),
        "of an issuer": (good | {"iss": "https://a.example"}, []),
        "everything": (
            {"iat": now + 60, "exp": now - 60},
            ["missing_claim", "missing_claim", "not_yet_valid", "expired"],
        ),
    }


def encoded(claims, key_pair, **header):
    """Signed by hand: PyJWT refuses to sign some of what has to be refused."""
    import base64

    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    def segment(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header = {"alg": "ES256", "typ": "JWT", "kid": key_pair.name} | header
    text = ".".join(segment(json.dumps(part).encode()) for part in [header, claims])
    key = load_pem_private_key(key_pair.private_key_pem.encode(), None)
    r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA256())))
    return f"{text}.{segment(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class TestVerdicts:
    """The same tokens, judged by Python and by the command."""

    @pytest.fixture
    def engine(self):
        return "sqlite"

    @pytest.mark.parametrize("name", claims_at(0))
    def test_claims_are_judged_as_python_judges_them(self, commands, key_pair, name):
        claims, reasons = claims_at(int(time.time()))[name]
        token = encoded(claims, key_pair)

        assert commands.codes(token) == reasons
        assert python_accepts(token) == (not reasons)

    def test_with_an_issuer_and_an_audience_too(self, commands, key_pair, settings):
        settings.JWT_ISSUER, settings.JWT_AUDIENCE = "https://a.example", "shop"
        env = {"JWT_ISSUER": settings.JWT_ISSUER, "JWT_AUDIENCE": settings.JWT_AUDIENCE}
        right = {"iss": "https://a.example", "aud": "shop"}
        for more, reasons in [
            (right, []),
            (right | {"aud": ["b", "shop"]}, []),
            (right | {"aud": ["b"]}, ["wrong_audience"]),
            (right | {"aud": ["shop", 1]}, ["wrong_audience"]),
            (right | {"aud": {"shop": 1}}, ["wrong_audience"]),
            (right | {"aud": ""}, ["missing_claim"]),
            (right | {"iss": "https://b.example"}, ["wrong_issuer"]),
            (right | {"iss": ["https://a.example"]}, ["wrong_issuer"]),
            (right | {"iss": None}, ["missing_claim"]),
            ({}, ["missing_claim", "missing_claim"]),
        ]:
            token = encoded(GOOD | more, key_pair)
            assert commands.codes(token, **env) == reasons, more
            assert python_accepts(token) == (not reasons), more

    def test_no_header_decides_how_a_token_is_verified(self, commands, key_pair):
        other = made_in_python("ES256", name="other")
        rsa = made_in_python("RS256", name="rsa")
        secret = "x" * 32
        good = encoded(GOOD, key_pair)
        head, body, signature = good.split(".")
        changed = encoded(GOOD | {"sub": "2"}, key_pair).split(".")[1]
        for token, reason in [
            (good, None),
            # 64 bytes are 86 characters and two of padding, which some issuers write.
            (f"{good}==", None),
            (f"{good}=", "malformed"),
            (signed(key_pair, GOOD, algorithm="ES256"), None),
            (jwt.encode(GOOD, secret, "HS256", headers={"kid": key_pair.name}), "wrong_algorithm"),
            (jwt.encode(GOOD, None, "none", headers={"kid": key_pair.name}), "wrong_algorithm"),
            (encoded(GOOD, key_pair, alg="RS256"), "wrong_algorithm"),
            (encoded(GOOD, key_pair, alg="ES384"), "wrong_algorithm"),
            (encoded(GOOD, key_pair, alg=None), "wrong_algorithm"),
            (signed(rsa, GOOD, algorithm="RS512"), "wrong_algorithm"),
            (signed(rsa, GOOD, algorithm="PS256"), "wrong_algorithm"),
            (encoded(GOOD, key_pair, kid="other"), "bad_signature"),
            (encoded(GOOD, key_pair, kid="rsa"), "wrong_algorithm"),
            (encoded(GOOD, key_pair, kid="nobody"), "unknown_kid"),
            (encoded(GOOD, key_pair, kid=""), "no_kid"),
            (encoded(GOOD, key_pair, kid=7), "malformed"),
            (jwt.encode(GOOD, other.private_key_pem, "ES256"), "no_kid"),
            (encoded(GOOD, key_pair, crit=["exp"]), "unsupported_crit"),
            (encoded(GOOD, key_pair, crit=[]), "unsupported_crit"),
            (encoded(GOOD, key_pair, crit=["b64"], b64=False), "malformed"),
            (encoded(GOOD, key_pair, jku="https://evil.example/jwks"), None),
            (f"{head}.{changed}.{signature}", "bad_signature"),
            (f"{head}.{body}.{signature[:-6]}", "bad_signature"),
            (f"{head}.{body}.", "bad_signature"),
            (f"{head}.{body}", "malformed"),
            (f"{head}.!!.{signature}", "malformed"),
            (f"{head}.{head}.{body}.{signature}", "malformed"),
            ("not a token", "malformed"),
        ]:
            verdict = commands.verdict(token)
            assert [each["code"] for each in verdict["reasons"]] == ([reason] if reason else [])
            assert python_accepts(token) == (reason is None), token
            # Words that nobody has signed are not repeated as claims.
            assert (verdict["claims"] is None) == (reason is not None)

    def test_every_change_of_a_character_is_noticed(self, commands, key_pair):
        token = encoded(GOOD, key_pair)
        for place in range(0, len(token), 17):
            other = "A" if token[place] != "A" else "B"
            changed = token[:place] + other + token[place + 1 :]
            assert commands.codes(changed), place
            assert not python_accepts(changed), place


def test_a_revoked_token_is_refused_on_both_sides_whoever_revoked_it(commands, user, key_pair):
    by_python, by_command, by_jti = (tokens.issue(user) for _ in range(3))
    assert commands.codes(by_python) == []

    tokens.revoke(by_python)
    done = commands.run("revoke", "--reason", "lost phone", token=by_command)
    jti = tokens.verify(by_jti)["jti"]
    dry = commands.run("revoke", "--jti", jti, "--dry-run").json()
    assert dry["revoked"]
    assert dry["dry_run"]
    assert python_accepts(by_jti)
    assert commands.run("revoke", "--jti", jti).json()["revoked"] is True
    assert commands.run("revoke", "--jti", jti).json()["revoked"] is False

    assert done.status == 0, done.stderr
    for token in [by_python, by_command, by_jti]:
        assert commands.codes(token) == ["revoked"]
        with pytest.raises(tokens.InvalidTokenError, match="revoked"):
            tokens.verify(token)
    for row in JWTToken.objects.all():
        assert row.is_revoked
        assert abs(row.revoked_at - timezone.now()) < timedelta(minutes=2)


def test_what_cannot_be_revoked_is_told(commands, user, key_pair):
    unrecorded = encoded(GOOD, key_pair)
    forged = encoded(GOOD, made_in_python("ES256", name="b"), kid=key_pair.name)

    for arguments, words in [
        ({"token": unrecorded}, "no token with the jti j is recorded"),
        ({"token": forged}, "its signature is not of its key pair"),
        ({"token": "x"}, "it is malformed"),
    ]:
        done = commands.run("revoke", **arguments)
        assert (done.status, done.stdout) == (70, "")
        assert words in done.stderr
    done = commands.run("revoke", "--jti", "nobody")
    assert done.status == 70
    assert "no token with the jti nobody is recorded" in done.stderr


def test_scopes_that_are_missing_are_named(commands, user, key_pair, scopes):
    token = tokens.issue(user, ["base"])

    assert commands.codes(token, "--scope", "base") == []
    verdict = commands.verdict(token, "--scope", "admin", "--scope", "base")
    assert verdict["reasons"] == [{"code": "missing_scope", "message": "it does not grant: admin"}]
    assert not python_accepts(token, scopes=["admin", "base"])


def test_the_tokens_of_a_key_pair_that_is_inactive_are_refused(site, commands, user, key_pair):
    token = tokens.issue(user)
    site.jwt_manage("rotate", "--force")
    assert commands.codes(token) == []

    JWTKeyPair.objects.filter(pk=key_pair.pk).update(is_active=False)
    assert commands.codes(token) == ["keypair_inactive"]
    JWTKeyPair.objects.filter(pk=key_pair.pk).update(is_active=True)
    site.jwt_manage("rotate", "--force", "--retire-now")
    assert commands.codes(token) == ["keypair_withdrawn"]
    assert not python_accepts(token)


def test_inspect_shows_everything_that_is_known(site, commands, user, key_pair, scopes):
    token = tokens.issue(user, ["base"], purpose="mobile app")
    jti = tokens.verify(token)["jti"]

    shown = commands.run("inspect", token=token).json()
    row = commands.run("inspect", "--jti", jti).json()["token"]

    assert shown["valid"] is True
    assert shown["claims"]["jti"] == jti
    assert shown["header"]["kid"] == key_pair.name
    assert shown["keypair"]["is_active"] is True
    assert shown["token"] == row
    assert (row["user"], row["purpose"], row["scopes"]) == (str(user.pk), "mobile app", ["base"])
    text = site.jwt_manage("token", "inspect", str(commands._file)).stdout
    for words in ["valid", jti, key_pair.name, "mobile app", "ES256"]:
        assert words in text
    forged = encoded(GOOD, made_in_python("ES256", name="b"), kid=key_pair.name)
    shown = commands.run("inspect", token=forged)
    assert shown.status == 0
    assert shown.json()["signature_valid"] is False
    assert shown.json()["token"] is None
    text = site.jwt_manage("token", "inspect", str(commands._file)).stdout
    assert "Nobody vouches" in text


def test_the_trail_names_tokens_and_never_holds_them(site, commands, user, key_pair):
    issued = commands.issue("--user", str(user.pk), USER="alice")
    done = commands.run("revoke", "--reason", "lost phone", token=issued["token"], USER="bob")
    assert issued["token"] not in done.stdout + done.stderr

    trail = site.jwt_manage("audit", "--json")

    revoked, made = trail.json()["events"]
    assert (made["action"], made["actor"]) == ("token issued", "operator alice")
    assert issued["jti"] in made["reason"]
    assert (revoked["action"], revoked["actor"]) == ("token revoked", "operator bob")
    assert revoked["reason"] == f"{issued['jti']}: lost phone"
    assert issued["token"].split(".")[2] not in trail.stdout
