"""A key pair of each algorithm: made, proved and stored by us; only made by Python."""

import subprocess
import time
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from databases import SqliteDatabase, migrate
from programs import binary

PYTHON = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


def key_pairs_made(folder: Path, count: int) -> list[dict]:
    """Medians in milliseconds; for RSA they vary much."""
    print(f"\nkey pairs: median of {count}", flush=True)
    database = SqliteDatabase(folder / "key-pairs.sqlite3")
    migrate(database)
    reports = []
    for algorithm in PYTHON:
        for password in ["", "correct horse"]:
            ours, python = [], []
            for _ in range(count):
                ours.append(by_us(database, algorithm, password))
                python.append(by_python(algorithm, password))
            report = {
                "algorithm": algorithm,
                "encrypted": bool(password),
                "ours_ms": median(ours),
                "python_ms": median(python),
            }
            form = "encrypted" if password else "plain"
            print(
                f"  {algorithm} {form:9} {report['ours_ms']:6.1f} ms with the program's start;"
                f" Python's cryptography {report['python_ms']:6.1f} ms without",
                flush=True,
            )
            reports.append(report)
    return reports


def by_us(database: SqliteDatabase, algorithm: str, password: str) -> float:
    env = {"JWT_SIGNING_ALGORITHM": algorithm, "JWT_PRIVATE_KEY_PASSWORD": password}
    began = time.monotonic()
    subprocess.run(
        # Retiring the others keeps those of another password out of the way.
        [binary("jwt_manage"), "rotate", "--force", "--retire-now", "--json"],
        env=database.env | env,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return (time.monotonic() - began) * 1000


def by_python(algorithm: str, password: str) -> float:
    began = time.monotonic()
    key = PYTHON[algorithm]()
    encryption = (
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption()
    )
    key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return (time.monotonic() - began) * 1000
