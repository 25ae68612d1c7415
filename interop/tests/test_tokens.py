"""Key pairs made by one side sign and verify tokens of the other."""

import json
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.contrib.auth.models import User
from django.utils import timezone

from jwt_auth import tokens
from jwt_auth.models import JWTKeyPair
from jwt_auth.tasks import (
    generate_jwt_health_report,
    initialize_jwt_scopes,
    rotate_jwt_keypairs,
)
from key_pairs import made_in_python

# Those that the worker makes; a site may have key pairs of another one.
ALGORITHMS = ["RS256", "ES256"]
PASSWORDS = pytest.mark.parametrize("password", ["", "correct horse"], ids=["plain", "encrypted"])


@pytest.fixture
def user(database_url):
    return User.objects.create(username="ada")


def run(task, **arguments):
    return task.delay(**arguments).get(timeout=60)


def jwks(site, **env):
    done = site.jwt_manage("jwks", **env)
    assert done.status == 0, done.stderr
    assert "PRIVATE" not in done.stdout
    return jwt.PyJWKSet.from_dict(done.json())


def in_rust(site, action, **request):
    """What a Rust service of the site makes of it."""
    answer = site.interop_tokens(json.dumps({action: request}))
    assert answer.status == 0, answer.stderr
    return json.loads(answer.stdout) if action == "verify" else answer.stdout.strip()


def verified_with(key_set, token):
    key = key_set[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(
        token, key.key, algorithms=[key.algorithm_name], options={"verify_aud": False}
    )


@PASSWORDS
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_python_signs_and_verifies_with_a_key_pair_that_rust_made(
    site, settings, user, algorithm, password
):
    settings.JWT_PRIVATE_KEY_PASSWORD = password
    site.worker(JWT_SIGNING_ALGORITHM=algorithm, JWT_PRIVATE_KEY_PASSWORD=password)
    run(initialize_jwt_scopes)
    run(rotate_jwt_keypairs)
    key_pair = JWTKeyPair.objects.get()

    token = tokens.issue(user, ["base"], purpose="interop")

    claims = tokens.verify(token, scopes=["base"])
    assert claims["sub"] == str(user.pk)
    header = jwt.get_unverified_header(token)
    assert header["alg"] == algorithm
    assert header["kid"] == key_pair.name
    assert ("ENCRYPTED" in key_pair.private_key_pem) == bool(password)
    assert verified_with(jwks(site), token)["jti"] == claims["jti"]
    assert in_rust(site, "verify", public_key_pem=key_pair.public_key_pem, token=token) == claims
    for other in {*ALGORITHMS, "ES384"} - {algorithm}:
        with pytest.raises(jwt.InvalidAlgorithmError):
            jwt.decode(token, key_pair.public_key_pem, algorithms=[other])
    if password:
        with pytest.raises(ValueError, match="password"):
            load_pem_private_key(key_pair.private_key_pem.encode(), b"battery staple")


@PASSWORDS
@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "ES384"])
def test_python_accepts_what_rust_signs_with_a_key_pair_that_python_made(
    site, settings, user, algorithm, password
):
    settings.JWT_PRIVATE_KEY_PASSWORD = password
    key_pair = made_in_python(algorithm, password)
    now = int(timezone.now().timestamp())
    claims = {"jti": "made in Rust", "sub": str(user.pk), "iat": now, "exp": now + 60}

    token = in_rust(
        site,
        "sign",
        private_key_pem=key_pair.private_key_pem,
        password=password or None,
        kid=key_pair.name,
        claims=claims,
    )

    assert tokens.verify(token) == claims


@PASSWORDS
@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "ES384"])
def test_the_worker_accepts_a_key_pair_that_python_made(site, settings, user, algorithm, password):
    settings.JWT_PRIVATE_KEY_PASSWORD = password
    made_in_python(algorithm, password)
    site.worker(JWT_PRIVATE_KEY_PASSWORD=password)
    run(initialize_jwt_scopes)

    # The report has each active key pair sign and verify a probe token.
    report = run(generate_jwt_health_report)

    assert (report["severity"], report["reasons"]) == ("ok", [])
    token = tokens.issue(user)
    assert verified_with(jwks(site), token)["sub"] == str(user.pk)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_rotation_keeps_the_algorithm_of_the_site(site, user, algorithm):
    old = made_in_python(algorithm, "")
    token = tokens.issue(user)
    site.worker()

    run(rotate_jwt_keypairs, force=True)

    new = JWTKeyPair.objects.exclude(pk=old.pk).get()
    newer = tokens.issue(user)
    assert jwt.get_unverified_header(newer)["kid"] == new.name
    assert jwt.get_unverified_header(newer)["alg"] == algorithm
    # Tokens of before stay valid, and both are in the key set that verifiers get.
    for each in [token, newer]:
        assert tokens.verify(each) == verified_with(jwks(site), each)


def test_the_name_of_a_new_key_pair_is_its_thumbprint(site):
    site.worker()
    run(rotate_jwt_keypairs)

    key_pair = JWTKeyPair.objects.get()
    key = next(iter(jwks(site).keys))
    assert key.key_id == key_pair.name == thumbprint(key)


def thumbprint(key):
    """RFC 7638, by hand, from the public numbers."""
    import base64
    import hashlib

    members = {"EC": ["crv", "kty", "x", "y"], "RSA": ["e", "kty", "n"]}
    data = {name: key._jwk_data[name] for name in members[key.key_type]}
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_a_retired_key_pair_s_tokens_are_refused(site, user):
    site.worker()
    run(rotate_jwt_keypairs)
    leaked = tokens.issue(user)

    run(rotate_jwt_keypairs, force=True, retire_now=True)

    with pytest.raises(tokens.InvalidTokenError, match="kid"):
        tokens.verify(leaked)
    assert tokens.verify(tokens.issue(user))


def test_a_wrong_password_is_said_on_both_sides(site, settings, user):
    made_in_python("ES256", "correct horse")
    settings.JWT_PRIVATE_KEY_PASSWORD = "battery staple"  # noqa: S105
    site.worker(JWT_PRIVATE_KEY_PASSWORD="battery staple")  # noqa: S106
    run(initialize_jwt_scopes)

    report = run(generate_jwt_health_report)

    assert report["health_status"] == "warning"
    assert report["severity"] != "ok"
    assert "battery" not in json.dumps(report)
    with pytest.raises(tokens.KeyPairError, match="JWT_PRIVATE_KEY_PASSWORD"):
        tokens.issue(user)


def test_halves_that_do_not_match_are_found(site):
    pair = made_in_python("ES256", "", name="a")
    pair.public_key_pem = made_in_python("ES256", "", name="b").public_key_pem
    pair.save()
    site.worker()
    run(initialize_jwt_scopes)

    report = run(generate_jwt_health_report)

    assert report["severity"] != "ok"


def test_encrypting_and_decrypting_keeps_every_key_usable(site, settings, user):
    password = {"JWT_PRIVATE_KEY_PASSWORD": "correct horse"}
    made_in_python("RS256", "", name="rsa")
    site.worker()
    run(rotate_jwt_keypairs, force=True)
    before = tokens.issue(user)

    done = site.jwt_manage("encrypt-keys", **password)

    assert done.status == 0, done.stderr
    assert all("ENCRYPTED" in pair.private_key_pem for pair in JWTKeyPair.objects.all())
    settings.JWT_PRIVATE_KEY_PASSWORD = "correct horse"  # noqa: S105
    assert tokens.verify(tokens.issue(user))
    assert tokens.verify(before)

    done = site.jwt_manage("decrypt-keys", **password)

    assert done.status == 0, done.stderr
    assert not any("ENCRYPTED" in pair.private_key_pem for pair in JWTKeyPair.objects.all())
    settings.JWT_PRIVATE_KEY_PASSWORD = None
    assert tokens.verify(tokens.issue(user))


class TestTokensOfPython:
    """What `jwt_auth.tokens` promises by itself."""

    @pytest.fixture(autouse=True)
    def key_pair(self, user):
        return made_in_python("ES256", "")

    def test_a_forged_algorithm_is_refused(self, user, key_pair):
        header = {"kid": key_pair.name}
        claims = jwt.decode(tokens.issue(user), options={"verify_signature": False})
        # The classic forgery: the public key taken as a shared secret.
        secret = "x" * 32
        for forged in [
            jwt.encode(claims, secret, algorithm="HS256", headers=header),
            jwt.encode(claims, None, algorithm="none", headers=header),
        ]:
            with pytest.raises(tokens.InvalidTokenError):
                tokens.verify(forged)

    def test_a_revoked_token_is_refused(self, user):
        token = tokens.issue(user)

        assert tokens.revoke(token) is True

        with pytest.raises(tokens.InvalidTokenError, match="revoked"):
            tokens.verify(token)

    def test_a_token_may_not_outlive_its_key(self, user):
        with pytest.raises(tokens.TokenError, match="JWT_MAX_EXPIRY_HOURS"):
            tokens.issue(user, expires_in=timedelta(hours=169))

    def test_a_token_expires(self, user, key_pair):
        now = timezone.now()
        claims = {"jti": "x", "sub": "1", "iat": now, "exp": now - timedelta(seconds=1)}
        token = jwt.encode(
            claims, key_pair.private_key_pem, algorithm="ES256", headers={"kid": key_pair.name}
        )

        with pytest.raises(tokens.InvalidTokenError, match="expired"):
            tokens.verify(token)

    def test_a_scope_must_exist_to_be_granted_and_be_granted_to_be_used(self, user):
        with pytest.raises(tokens.TokenError, match="no such active scope: admin"):
            tokens.issue(user, ["admin"])
        with pytest.raises(tokens.InvalidTokenError, match="does not grant: admin"):
            tokens.verify(tokens.issue(user), scopes=["admin"])

    def test_issuer_and_audience_are_required_where_they_are_set(self, user, settings):
        plain = tokens.issue(user)
        settings.JWT_ISSUER, settings.JWT_AUDIENCE = "https://a.example", "shop"
        ours = tokens.issue(user)

        assert tokens.verify(ours)["iss"] == "https://a.example"
        with pytest.raises(tokens.InvalidTokenError):
            tokens.verify(plain)
        settings.JWT_ISSUER = "https://b.example"
        with pytest.raises(tokens.InvalidTokenError):
            tokens.verify(ours)

    def test_a_newer_key_pair_signs_and_the_older_one_still_verifies(self, user):
        older = tokens.issue(user)
        newer = made_in_python("RS256", "", name="newer")

        token = tokens.issue(user)

        assert jwt.get_unverified_header(token)["kid"] == newer.name
        assert tokens.verify(older)
