"""`python -m conformance`: Celery's own integration suite against our worker."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from conformance.expectations import Expectations, Outcome, load, outcomes
from conformance.source import unpacked

HERE = Path(__file__).resolve().parent
EXPECTATIONS = HERE.parent / "conformance.toml"
# Other brokers and backends than Redis, and tasks that are signed.
LEFT_OUT = ["test_backend.py", "test_cache_backend.py", "test_security.py"]
# Most tests wait for somebody's timeout, not for the processor.
PROCESSES = 4


def main() -> int:
    arguments, for_pytest = _arguments()
    expected = load(EXPECTATIONS)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target").resolve()
    suite = unpacked(expected.celery, expected.sha256, target / "conformance")
    record = target / "conformance" / "outcomes.jsonl"
    tests = sorted(expected.quick) if arguments.quick else ["t/integration"]
    status = _run(suite, arguments, record, [*tests, *for_pytest])
    if status not in (0, 1):
        _say(f"pytest itself failed with status {status}")
        return status
    whole = not for_pytest
    return _judge(expected, outcomes(record), arguments, whole)


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="./dev conformance",
        description="Runs Celery's own integration suite against our worker and says how many of"
        " the tests pass that can. Fails where one does not that conformance.toml pins.",
        epilog="Further arguments go to pytest: -k EXPRESSION, --lf, -x, -n PROCESSES.",
    )
    parser.add_argument("--quick", action="store_true", help="the third that ./dev test runs")
    parser.add_argument(
        "--worker",
        choices=["interop-worker", "celery"],
        default="interop-worker",
        help="celery: Celery's own worker as a process of its own, for comparison",
    )
    return parser.parse_known_args()


def _run(suite: Path, arguments: argparse.Namespace, record: Path, more: list[str]) -> int:
    """pytest's exit status."""
    plugins = ["celery.contrib.pytest", "conformance.external_worker", "conformance.record"]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short"]
    command += [option for plugin in plugins for option in ("-p", plugin)]
    command += ["--worker", arguments.worker, "--record", str(record)]
    command += ["-n", str(PROCESSES), "--dist", "worksteal"]
    command += [f"--ignore=t/integration/{file}" for file in LEFT_OUT]
    environment = os.environ | {
        # The suite starts `celery` and imports its own package.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(suite), str(HERE.parent), str(HERE.parent / "tests")]),
    }
    return subprocess.run([*command, *more], cwd=suite, env=environment, check=False).returncode


def _judge(
    expected: Expectations,
    found: dict[str, Outcome],
    arguments: argparse.Namespace,
    whole: bool,
) -> int:
    """Prints the result. 1 where a pinned test did not pass, or did not run though it should."""
    passed = {test for test, outcome in found.items() if outcome.outcome == "passed"}
    possible = expected.pinned | expected.reasons.keys()
    wanted = expected.quick if arguments.quick else expected.pinned
    ran = found.keys() if not whole else found.keys() | wanted
    missed = sorted((wanted & ran) - passed)
    for test in sorted(passed - possible - expected.hopeless.keys()):
        _say(f"passes, but conformance.toml does not name it: {test}")
    for test in sorted(passed & (expected.reasons.keys() | expected.hopeless.keys())):
        _say(f"passes, though conformance.toml says that it cannot: {test}")
    for test in missed:
        _say(f"pinned, but {found[test].outcome if test in found else 'did not run'}: {test}")
    if whole and not arguments.quick:
        for reason in dict.fromkeys(expected.reasons.values()):
            number = sum(1 for other in expected.reasons.values() if other == reason)
            _say(f"not asked of {arguments.worker} ({number}): {reason}")
    again = sum(1 for outcome in found.values() if outcome.tries > 1)
    _say(
        f"{len(passed & possible)} of {expected.ceiling} pass with {arguments.worker}"
        + (f" ({len(wanted)} were asked)" if arguments.quick else "")
        + (f"; {again} at a second try" if again else "")
    )
    return 1 if missed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


sys.exit(main())
