"""No private key in any output: whatever the suite made our programs, PostgreSQL and Redis write
is searched, at the end of the session, for the bytes of every private key that was in a database.
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.db import DatabaseError

# What the tests encrypt with.
PASSWORD = b"correct horse"
# Logs, and everything that was ever in Redis: messages, results, events.
SEARCHED = ["*.log", "*.aof"]


def forms(pem: str) -> set[bytes]:
    """Each form in which a part of a private key could be written by accident."""
    found = {line.encode() for line in pem.splitlines() if len(line) == 64}
    try:
        key = load_pem_private_key(pem.encode(), PASSWORD if "ENCRYPTED" in pem else None)
    except (ValueError, TypeError):
        return found
    numbers = key.private_numbers()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        secrets = [numbers.private_value]
    elif isinstance(key, rsa.RSAPrivateKey):
        secrets = [numbers.d, numbers.p, numbers.q]
    else:
        return found
    for secret in secrets:
        raw = secret.to_bytes((secret.bit_length() + 7) // 8, "big")
        found |= {
            raw,
            raw.hex().encode(),
            raw.hex().upper().encode(),
            base64.b64encode(raw).rstrip(b"="),
            base64.urlsafe_b64encode(raw).rstrip(b"="),
            str(secret).encode(),
            # As Rust's Debug and Python's list() write bytes.
            ", ".join(map(str, raw[:16])).encode(),
        }
    return found


def searched(folder: Path) -> Iterator[Path]:
    for pattern in SEARCHED:
        yield from folder.rglob(pattern)


def leaks(folder: Path, secrets: set[bytes]) -> list[str]:
    """The files in which a part of a private key is, or what it begins with."""
    found = []
    for path in searched(folder):
        content = path.read_bytes()
        if b"PRIVATE KEY-----" in content or any(secret in content for secret in secrets):
            found.append(str(path.relative_to(folder)))
    return found


@pytest.fixture(scope="session", autouse=True)
def secrets_of_session(folder: Path) -> Iterator[set[bytes]]:
    """What must be in no output of the session, collected test by test."""
    secrets: set[bytes] = set()
    yield secrets
    found = leaks(folder, secrets)
    assert not found, f"a private key is in {found}"


@pytest.fixture(autouse=True)
def secrets_of_test(
    request: pytest.FixtureRequest, secrets_of_session: set[bytes]
) -> Iterator[None]:
    """Collects the private keys that are in the test's database when it ends."""
    if "database_url" not in request.fixturenames:
        yield
        return
    # First, so that the database is still there afterwards.
    request.getfixturevalue("database_url")
    yield
    from jwt_auth.models import JWTKeyPair

    try:
        for pem in JWTKeyPair.objects.values_list("private_key_pem", flat=True):
            secrets_of_session |= forms(pem)
    except DatabaseError:
        # A test of tables that are missing.
        return
