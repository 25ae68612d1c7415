"""No private key in any output: whatever the suite made our programs, PostgreSQL and Redis write
is searched, at the end of the session, for the bytes of every private key that was in a database.

As a program it searches files, such as the output of `cargo test`, whose keys it does not know: for
what every private key begins with, and for the keys of the folders that it is given.
"""

import argparse
import base64
import sys
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


# The DER of private keys up to where they differ: PKCS#8 of P-256, P-384 and RSA of 2048 bits, then
# SEC 1 and PKCS#1.
BEGINNINGS = [
    "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420",
    "3081b6020100301006072a8648ce3d020106052b8104002204819e30819b0201010430",
    "020100300d06092a864886f70d0101010500048204",
    "30770201010420",
    "3081a40201010430",
    "0201000282010100",
]


def beginnings() -> set[bytes]:
    """What is in any text that a whole private key was written into, in whichever form."""
    # The second is RSA's PKCS#8 in base64, behind its length.
    found = {b"PRIVATE KEY-----", b"ADANBgkqhkiG9w0BAQEFAASC"}
    for text in BEGINNINGS:
        raw = bytes.fromhex(text)
        found |= {
            raw,
            text.encode(),
            text.upper().encode(),
            ", ".join(map(str, raw)).encode(),
        }
        # Those that are whole begin a text in base64; of its last group not all bits are known.
        if text.startswith("30"):
            found.add(base64.b64encode(raw[: len(raw) // 3 * 3]))
    # Eight characters may be anywhere by chance.
    return {form for form in found if len(form) > 8}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--keys", type=Path, action="append", default=[], metavar="FOLDER")
    arguments = parser.parse_args()
    secrets = beginnings()
    for folder in arguments.keys:
        for pem in folder.glob("*.pem"):
            if "PRIVATE" in (text := pem.read_text()):
                secrets |= forms(text)
    for path in arguments.files:
        content = path.read_bytes()
        if any(secret in content for secret in secrets):
            sys.exit(f"a private key is in {path}")


if __name__ == "__main__":
    main()
