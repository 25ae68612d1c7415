"""pytest plugin: what became of each test, as one JSON object a line in the file of `--record`."""

import json
from pathlib import Path

import pytest

OUTCOMES = pytest.StashKey["Recorder"]()


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
            report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0, "tries": 1}
        )
        # The parts of a test that has subtests are counted with the test itself.
        if not hasattr(report, "context"):
            test["seconds"] += report.duration
        if report.outcome == "rerun":
            test["tries"] += 1
            test["outcome"] = "passed"
        elif report.outcome != "passed" and test["outcome"] != "failed":
            test["outcome"] = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            test["why"] = str(report.longrepr)[-2_000:]
        if report.when == "teardown":
            test["seconds"] = round(test["seconds"], 2)
            with self._path.open("a") as file:
                file.write(json.dumps(test) + "\n")
            del self._tests[report.nodeid]
