"""pytest plugin: what became of each test, as one JSON object a line in the file of `--record`."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Outcome:
    """What became of a test."""

    test: str
    outcome: str
    """passed, failed, skipped or xfailed."""
    seconds: float
    why: str = ""


def outcomes(path: Path) -> dict[str, Outcome]:
    """What a run has recorded, by the name of the test."""
    found = (Outcome(**json.loads(line)) for line in path.read_text().splitlines())
    return {outcome.test: outcome for outcome in found}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("conformance").addoption("--record", type=Path, metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    # With pytest-xdist, only the process that collects all reports writes.
    path = config.getoption("record")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(path), "conformance-recorder")


class Recorder:
    """Adds a test's phases up and writes the line when its last phase is over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.write_text("")
        self._tests: dict[str, dict[str, object]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self._tests.setdefault(
            report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0}
        )
        # The parts of a test that has subtests are counted with the test itself.
        if not hasattr(report, "context"):
            test["seconds"] += report.duration
        if report.outcome != "passed" and test["outcome"] != "failed":
            test["outcome"] = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            test["why"] = str(report.longrepr)[-2_000:]
        if report.when == "teardown":
            test["seconds"] = round(test["seconds"], 2)
            with self._path.open("a") as file:
                file.write(json.dumps(test) + "\n")
            del self._tests[report.nodeid]
