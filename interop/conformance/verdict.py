"""What to say of a run."""

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from conformance.expectations import Expectations
from conformance.record import Outcome


class Asked(enum.Enum):
    """Which tests had to run."""

    ALL = enum.auto()
    QUICK = enum.auto()
    SOME = enum.auto()
    """Those that pytest was told to."""


@dataclass(frozen=True)
class Verdict:
    lines: list[str]
    as_expected: bool
    """Whether every pinned test that had to run has passed."""


def judge(expected: Expectations, found: Mapping[str, Outcome], asked: Asked) -> Verdict:
    """Compares what became of the tests with what conformance.toml says."""
    passed = {test for test, outcome in found.items() if outcome.outcome == "passed"}
    wanted = {
        Asked.ALL: expected.pinned,
        Asked.QUICK: expected.quick,
        Asked.SOME: expected.pinned & found.keys(),
    }[asked]
    impossible = expected.python_only.keys() | expected.hopeless.keys()
    missed = sorted(wanted - passed)
    lines = [
        f"passes, though said to be impossible: {test}" for test in sorted(passed & impossible)
    ]
    for test in sorted(found.keys() - expected.pinned - impossible):
        lines.append(f"not in conformance.toml: {test} ({found[test].outcome})")
    for test in missed:
        lines.append(f"pinned, but {found[test].outcome if test in found else 'not run'}: {test}")
    if asked is Asked.ALL:
        for reason, number in Counter(expected.python_only.values()).items():
            lines.append(f"not asked of a worker that is not Python ({number}): {reason}")
    possible = expected.pinned | expected.python_only.keys()
    total = len(wanted) if asked is Asked.QUICK else len(possible)
    lines.append(f"{len(passed & possible)} of {total}")
    return Verdict(lines, as_expected=not missed)
