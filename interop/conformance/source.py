"""The source package of Celery, which carries the suite: fetched once, kept below target/."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path


def unpacked(version: str, sha256: str, folder: Path) -> Path:
    """The folder of the unpacked source package; nothing is fetched that is there already."""
    source = folder / f"celery-{version}"
    if (source / "t" / "integration").is_dir():
        return source
    archive = folder / f"celery-{version}.tar.gz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
            + ["--no-binary", "celery", "--no-deps", "--no-build-isolation"]
            + ["-d", str(folder), f"celery=={version}"],
            check=True,
        )
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        archive.unlink()
        raise RuntimeError(
            f"the source package of celery {version} has the SHA-256 {found}, not the {sha256}"
            " that conformance.toml names; it was deleted"
        )
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return source
