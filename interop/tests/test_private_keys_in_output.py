"""The search for private keys finds them: else its silence says nothing."""

import base64
import signal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from jwt_auth.tasks import initialize_jwt_scopes
from key_pairs import made_in_python
from private_keys_in_output import forms, leaks


@pytest.fixture
def engine():
    return "sqlite"


@pytest.mark.parametrize("password", ["", "correct horse"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_every_way_to_write_a_private_key_is_found(database_url, tmp_path, algorithm, password):
    pem = made_in_python(algorithm, password).private_key_pem
    numbers = load_pem_private_key(pem.encode(), password.encode() or None).private_numbers()
    number = numbers.d if algorithm == "RS256" else numbers.private_value
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")

    for written in [
        pem.encode(),
        pem.splitlines()[1].encode(),
        raw,
        base64.urlsafe_b64encode(raw),
        raw.hex().encode(),
        f"SigningKey {{ bytes: {list(raw)} }}".encode(),
        f"SigningKey({number})".encode(),
    ]:
        (tmp_path / "worker.log").write_bytes(b"before " + written + b" after")
        assert leaks(tmp_path, forms(pem)) == ["worker.log"], written
    (tmp_path / "worker.log").write_text("key pair abc: created")
    assert leaks(tmp_path, forms(pem)) == []


def test_what_the_programs_write_is_searched(site, folder):
    worker = site.worker()
    site.jwt_manage("status")

    logs = {path.name for path in worker.log.parent.iterdir()}

    assert "commands.log" in logs
    assert worker.log.name in logs
    assert worker.log.suffix == ".log"
    assert worker.log.is_relative_to(folder)


def test_a_worker_that_dies_of_an_error_leaves_no_core_file(site):
    """Its memory may hold a private key at that moment."""
    worker = site.worker()
    assert initialize_jwt_scopes.delay().get(timeout=60)["success"] is True
    limits = Path(f"/proc/{worker.pid}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]

    worker.send(signal.SIGABRT)

    assert worker.wait() == -signal.SIGABRT
    assert not list(worker.log.parent.glob("core*"))
