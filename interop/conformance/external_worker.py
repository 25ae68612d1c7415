"""pytest plugin: the suite's worker is a process of its own, on a Redis of its own.

Loaded with `-p` before the suite's conftest is imported. It takes the place of
`celery.contrib.testing.worker.start_worker`, which would run a Python worker in a thread.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing import worker as testing_worker
from celery.result import _set_task_join_will_block
from celery.utils.nodenames import anon_nodename

from processes import Process
from programs import binary
from servers import RedisServer
from waiting import until

# The longest test takes 150 s; what has not come by then does not come.
SECONDS_PER_TEST = 240

FOLDER = pytest.StashKey[tempfile.TemporaryDirectory]()
REDIS = pytest.StashKey[RedisServer]()
LOGS: list[Path] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--worker", choices=["interop-worker", "celery"], default="interop-worker")
    group.addoption("--seconds-per-test", type=float, default=SECONDS_PER_TEST)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Starts Redis: the suite's conftest reads from the environment where it is."""
    folder = tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True)
    early_config.stash[FOLDER] = folder
    server = RedisServer(Path(folder.name))
    early_config.stash[REDIS] = server
    os.environ |= {
        "TEST_BROKER": server.url(),
        "TEST_BACKEND": server.url(),
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(server.port),
    }
    command = {
        "interop-worker": lambda node: [binary("interop-worker"), "-n", node, "-c", "1"],
        "celery": python_worker,
    }[early_config.known_args_namespace.worker]
    testing_worker.start_worker = starter(command, Path(folder.name))


def pytest_unconfigure(config: pytest.Config) -> None:
    if REDIS in config.stash:
        config.stash[REDIS].stop()
        config.stash[FOLDER].cleanup()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        most = config.getoption("seconds_per_test")
        asked = item.get_closest_marker("timeout")
        seconds = asked and (asked.args or [asked.kwargs["timeout"]])[0]
        item.add_marker(pytest.mark.timeout(min(seconds or most, most)), append=False)


@pytest.fixture(scope="session", autouse=True)
def worker_from_the_first_test_on(celery_session_worker: Process) -> Process:
    """Some tests rely on one before them having started the worker."""
    return celery_session_worker


def pytest_runtest_setup() -> None:
    # A worker that a test builds in this process forbids waiting for results from then on;
    # `start_worker` of Celery allows it again.
    _set_task_join_will_block(False)
    # Results that a test has left behind in reference cycles stay subscribed to, and some tests
    # count the subscriptions.
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    """Shows what the worker logged last where a test failed."""
    report = yield
    if report.failed:
        for log in LOGS[-1:]:
            text = log.read_text(errors="replace")
            report.sections.append((f"log of {log.stem}", text[-6_000:]))
    return report


def python_worker(node: str) -> list[str]:
    """Celery's own worker, with the suite's tasks."""
    return [sys.executable, "-m", "celery", "-A", "conformance.python_app", "worker"] + [
        *["-n", node, "-c", "1", "-P", "prefork", "-l", "info"],
        *["--without-gossip", "--without-mingle", "--without-heartbeat"],
    ]


def starter(command: Any, folder: Path) -> Any:
    """What replaces `start_worker`."""

    @contextmanager
    def start_worker(app: Celery, shutdown_timeout: float = 10.0, **_: Any) -> Iterator[Process]:
        app.finalize()
        app.set_current()
        app.set_default()
        node = anon_nodename()
        log = folder / f"worker-{len(LOGS)}.log"
        LOGS.append(log)
        process = Process(command(node), log, env=environment())
        inspect = app.control.inspect(destination=[node], timeout=1.0)

        def answers() -> bool:
            if not process.is_running():
                raise RuntimeError(f"the worker ended at once:\n{process.output()}")
            return bool(inspect.ping())

        try:
            until(answers, f"the worker {node} answers a ping")
            yield process
        finally:
            process.send(signal.SIGTERM)
            try:
                process.wait(shutdown_timeout)
            except subprocess.TimeoutExpired:
                process.kill()

    return start_worker


def environment() -> dict[str, str]:
    """What `celery_config` of the suite's conftest tells a Python worker, told to ours."""
    return os.environ | {
        "CELERY_BROKER_URL": os.environ["TEST_BROKER"],
        "CELERY_RESULT_BACKEND": os.environ["TEST_BACKEND"],
        # Celery's default, which `inspect active` of the suite sees.
        "CELERY_TASK_ACKS_LATE": "false",
        "CELERY_RESULT_EXTENDED": "true",
        "RUST_BACKTRACE": "1",
        "HOSTNAME": socket.gethostname(),
    }
