"""`python -m conformance`: Celery's own integration suite against our worker."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from conformance.expectations import load
from conformance.record import outcomes
from conformance.source import unpacked
from conformance.verdict import Asked, judge

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
    if any(argument.startswith("t/") for argument in for_pytest):
        tests = []
    status = _run(suite, arguments.worker, record, [*tests, *for_pytest])
    if status not in (0, 1):
        _say(f"pytest itself failed with status {status}")
        return status
    asked = Asked.SOME if for_pytest else Asked.QUICK if arguments.quick else Asked.ALL
    verdict = judge(expected, outcomes(record), asked)
    _say("\n".join(verdict.lines))
    return 0 if verdict.as_expected else 1


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="./dev conformance",
        description="Runs Celery's own integration suite against our worker and says how many of"
        " the tests pass that can. Fails where one does not that conformance.toml pins.",
        epilog="Further arguments go to pytest: t/integration/FILE::TEST, -k EXPRESSION, --lf, -x,"
        " -n PROCESSES.",
    )
    parser.add_argument("--quick", action="store_true", help="the third that ./dev test runs")
    parser.add_argument(
        "--worker",
        choices=["interop-worker", "celery"],
        default="interop-worker",
        help="celery: Celery's own worker as a process of its own, for comparison",
    )
    return parser.parse_known_args()


def _run(suite: Path, worker: str, record: Path, more: list[str]) -> int:
    """pytest's exit status."""
    plugins = ["celery.contrib.pytest", "conformance.external_worker", "conformance.record"]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short"]
    command += [option for plugin in plugins for option in ("-p", plugin)]
    command += ["--worker", worker, "--record", str(record)]
    command += ["-n", str(PROCESSES), "--dist", "worksteal"]
    command += [f"--ignore=t/integration/{file}" for file in LEFT_OUT]
    environment = os.environ | {
        # The suite starts `celery` and imports its own package.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(suite), str(HERE.parent), str(HERE.parent / "tests")]),
    }
    return subprocess.run([*command, *more], cwd=suite, env=environment, check=False).returncode


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


sys.exit(main())
