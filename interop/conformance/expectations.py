"""conformance.toml: what is expected of which test."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    # pytest brings it.
    import tomli as tomllib


@dataclass(frozen=True)
class Expectations:
    """The suite as `conformance.toml` describes it. Tests are named as pytest names them."""

    celery: str
    sha256: str
    pinned: frozenset[str]
    """Tests that must pass."""
    quick: frozenset[str]
    """Those of them that `./dev test` runs."""
    python_only: dict[str, str]
    """Tests that cannot pass with a worker that is not Python, and why."""
    hopeless: dict[str, str]
    """Tests that pass with no worker outside pytest's process, and why."""


def load(path: Path) -> Expectations:
    data = tomllib.loads(path.read_text())
    return Expectations(
        celery=data["celery"]["version"],
        sha256=data["celery"]["sha256"],
        pinned=frozenset(_tests(data["pinned"])),
        quick=frozenset(_tests(data["quick"])),
        python_only=_reasons(data.get("python-worker-only", [])),
        hopeless=_reasons(data["no-external-worker"]),
    )


def _tests(files: dict[str, list[str]]) -> Iterable[str]:
    return (f"t/integration/{file}.py::{test}" for file, tests in files.items() for test in tests)


def _reasons(groups: list[dict]) -> dict[str, str]:
    return {test: group["reason"] for group in groups for test in _tests(group["tests"])}
