"""What `./dev conformance` makes of a run of Celery's own integration suite."""

from pathlib import Path

import pytest

from conformance.expectations import Expectations, load
from conformance.record import Outcome
from conformance.verdict import Asked, judge

EXPECTED = Expectations(
    celery="5.7.0",
    sha256="",
    pinned=frozenset({"quick", "slow"}),
    quick=frozenset({"quick"}),
    python_only={"python": "it wants objects"},
    hopeless={"hopeless": "it fails for everybody"},
)


def ran(**outcomes: str) -> dict[str, Outcome]:
    return {test: Outcome(test, outcome, 1.0) for test, outcome in outcomes.items()}


def test_a_run_is_as_expected_when_all_pinned_tests_pass():
    verdict = judge(EXPECTED, ran(quick="passed", slow="passed", python="failed"), Asked.ALL)
    assert verdict.as_expected
    assert verdict.lines == [
        "not asked of a worker that is not Python (1): it wants objects",
        "2 of 3",
    ]


@pytest.mark.parametrize("outcome", ["failed", "skipped", "xfailed"])
def test_a_pinned_test_that_does_not_pass_is_named(outcome: str):
    verdict = judge(EXPECTED, ran(quick="passed", slow=outcome), Asked.ALL)
    assert not verdict.as_expected
    assert f"pinned, but {outcome}: slow" in verdict.lines


def test_a_pinned_test_that_did_not_run_is_named():
    verdict = judge(EXPECTED, ran(quick="passed"), Asked.ALL)
    assert not verdict.as_expected
    assert "pinned, but not run: slow" in verdict.lines


def test_only_what_was_asked_has_to_run():
    assert judge(EXPECTED, ran(quick="passed"), Asked.QUICK).as_expected
    assert not judge(EXPECTED, ran(slow="passed"), Asked.QUICK).as_expected
    assert judge(EXPECTED, ran(slow="passed"), Asked.SOME).as_expected
    assert not judge(EXPECTED, ran(slow="failed"), Asked.SOME).as_expected


def test_what_passes_against_expectation_is_named():
    found = ran(quick="passed", slow="passed", hopeless="passed", new="passed")
    lines = judge(EXPECTED, found, Asked.ALL).lines
    assert "passes, though said to be impossible: hopeless" in lines
    assert "not in conformance.toml: new (passed)" in lines


def test_the_list_names_each_test_once():
    expected = load(Path(__file__).parents[1] / "conformance.toml")
    named = [*expected.pinned, *expected.python_only, *expected.hopeless]
    assert len(named) == len(set(named)) == 405
    assert expected.quick <= expected.pinned
    assert len(expected.quick) >= len(expected.pinned) // 3
