"""conformance.toml: what is expected of which test, and what to say of a run."""

import json
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
    reasons: dict[str, str]
    """Tests that cannot pass with a worker that is not Python, and why."""
    hopeless: dict[str, str]
    """Tests that pass with no worker outside pytest's process, and why."""

    @property
    def ceiling(self) -> int:
        """How many tests pass with Celery's own worker as a process of its own."""
        return len(self.pinned) + len(self.reasons)


def load(path: Path) -> Expectations:
    data = tomllib.loads(path.read_text())
    return Expectations(
        celery=data["celery"]["version"],
        sha256=data["celery"]["sha256"],
        pinned=frozenset(_tests(data["pinned"])),
        quick=frozenset(_tests(data["quick"])),
        reasons=_reasons(data["python-worker-only"]),
        hopeless=_reasons(data["no-external-worker"]),
    )


def _tests(files: dict[str, list[str]]) -> Iterable[str]:
    return (f"t/integration/{file}.py::{test}" for file, tests in files.items() for test in tests)


def _reasons(groups: list[dict]) -> dict[str, str]:
    return {test: group["reason"] for group in groups for test in _tests(group["tests"])}


@dataclass(frozen=True)
class Outcome:
    test: str
    outcome: str
    seconds: float
    tries: int
    why: str = ""


def outcomes(record: Path) -> dict[str, Outcome]:
    """What `record.py` wrote."""
    lines = record.read_text().splitlines()
    found = (Outcome(**json.loads(line)) for line in lines)
    return {outcome.test: outcome for outcome in found}
