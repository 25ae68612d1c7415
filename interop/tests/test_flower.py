"""Flower shows and steers our workers."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from celery.exceptions import TaskRevokedError

from processes import Process
from programs import CHECKOUT, Programs
from servers import free_port
from waiting import until

OURS = "ours@here"
SCREENSHOT = CHECKOUT / "target" / "flower-worker.png"
TABS = ["pool", "broker", "queues", "tasks", "limits", "config", "system"]


class Flower:
    """A running Flower, asked over HTTP."""

    def __init__(self, programs: Programs) -> None:
        self.port = free_port()
        self.process = programs.flower(self.port)
        until(self._answers, "Flower answers")

    def _answers(self) -> bool:
        assert self.process.is_running(), self.process.output()
        try:
            return self.request("GET", "/healthcheck")[0] == 200
        except OSError:
            return False

    def request(self, method: str, path: str, **fields: Any) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            connection.request(method, path, urlencode(fields) if fields else None, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def page(self, path: str) -> str:
        status, text = self.request("GET", path)
        assert status == 200, f"{path}: {status} {text}"
        return text

    def get(self, path: str) -> Any:
        return json.loads(self.page(path))

    def post(self, path: str, **fields: Any) -> Any:
        status, text = self.request("POST", path, **(fields or {"_": ""}))
        assert status == 200, f"{path}: {status} {text}"
        return json.loads(text)

    def worker(self) -> dict[str, Any] | None:
        """The line of our worker in the list of workers."""
        lines = self.get("/workers?json=1")["data"]
        return next((line for line in lines if line["hostname"] == OURS), None)

    def counts(self, event: str) -> int:
        return (self.worker() or {}).get(event, 0)


@pytest.fixture
def worker(programs: Programs) -> Process:
    worker = programs.interop_worker("-c", "2", "-n", OURS)
    until(lambda: " ready" in worker.output(), "the worker is ready")
    return worker


@pytest.fixture
def flower(programs: Programs, worker: Process) -> Iterator[Flower]:
    flower = Flower(programs)
    # It asks for task events after five seconds.
    until(lambda: "task events enabled" in worker.output(), "task events are on")
    until(flower.worker, "it knows our worker")
    return flower


def test_flower_shows_our_worker_with_its_counts(app, flower, worker):
    good = app.send_task("bench.add", (2, 3))
    bad = app.send_task("bench.fail", ("boom",))
    running = app.send_task("bench.sleep", (30,))
    counts = {"received": 3, "started": 3, "succeeded": 1, "failed": 1}
    until(
        lambda: all(flower.counts(f"task-{event}") == count for event, count in counts.items()),
        "it has heard of all",
    )

    line = flower.worker()

    assert line["status"] is True
    assert line["pid"] == worker.pid
    until(lambda: flower.counts("active") == 1, "a heartbeat tells of the running task")
    assert flower.worker()["processed"] == 3

    tasks = flower.get("/api/tasks")
    assert tasks[good.id]["state"] == "SUCCESS"
    assert (tasks[good.id]["name"], tasks[good.id]["args"]) == ("bench.add", "(2, 3)")
    assert tasks[good.id]["result"] == "5"
    assert tasks[bad.id]["exception"] == "ValueError('boom')"
    assert tasks[running.id]["state"] == "STARTED"
    assert flower.get(f"/api/task/result/{good.id}")["result"] == 5
    assert "ValueError" in flower.page(f"/task/{bad.id}")
    assert "Tasks" in flower.page("/tasks")


def test_a_workers_page_has_every_tab(app, flower, worker):
    app.send_task("bench.noop").get(timeout=30)
    running = app.send_task("bench.sleep", (30,))
    scheduled = app.send_task("bench.add", (1, 2), countdown=600)
    app.control.revoke("revoked-before", reply=True, timeout=30, limit=1)
    until(lambda: flower.counts("task-started") == 2, "it has heard of all")

    flower.get(f"/api/workers?refresh=1&workername={quote(OURS)}")
    # What is shown is refreshed after it was asked for, tab by tab.
    shown = ["Worker:slots", "Max concurrency", "127.0.0.1", "worker-cancel-consumer-celery"]
    shown += [running.id, scheduled.id, "revoked-before", "bench.noop", str(worker.pid)]
    shown += [f'id="tab-{tab}"' for tab in TABS]

    def missing() -> list[str]:
        page = flower.page(f"/worker/{OURS}")
        return [text for text in shown if text not in page]

    until(lambda: not missing(), "it shows all that was asked for")


def test_flower_steers_our_worker(app, flower):
    def control(what: str, **query: Any) -> str:
        path = f"/api/worker/{what}/{OURS}"
        return flower.post(f"{path}?{urlencode(query)}" if query else path)["message"]

    def slots() -> int:
        stats = app.control.inspect([OURS], timeout=30, limit=1).stats()
        return stats[OURS]["pool"]["max-concurrency"]

    assert "2" in control("pool/grow", n=2) and slots() == 4
    assert "1" in control("pool/shrink", n=1) and slots() == 3
    assert control("queue/add-consumer", queue="extra") == "add consumer extra"
    assert app.send_task("bench.add", (1, 2), queue="extra").get(timeout=30) == 3
    assert control("queue/cancel-consumer", queue="extra") == "no longer consuming from extra"
    limited = flower.post("/api/task/rate-limit/bench.noop", workername=OURS, ratelimit="7/m")
    assert limited["message"] == "new rate limit set successfully"
    timed = flower.post("/api/task/timeout/bench.noop", workername=OURS, hard=60, soft=50)
    assert timed["message"] == "time limits set successfully"
    registered = app.control.inspect([OURS], timeout=30, limit=1).registered()[OURS]
    assert "bench.noop [rate_limit=7/m]" in registered


def test_flower_revokes_and_shuts_down(app, flower, worker):
    running = app.send_task("bench.sleep", (60,))
    until(lambda: flower.counts("task-started") == 1, "it runs")

    flower.post(f"/api/task/revoke/{running.id}?terminate=true")

    with pytest.raises(TaskRevokedError):
        running.get(timeout=30)
    until(lambda: flower.get("/api/tasks")[running.id]["state"] == "REVOKED", "it shows so")
    flower.post(f"/api/worker/shutdown/{OURS}")
    assert worker.wait() == 0
    until(lambda: not flower.worker()["status"], "it shows the worker as offline")


def test_a_browser_shows_the_worker(app, flower, folder: Path):
    """The screenshot is kept for people to look at."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "chromium is not installed; on Debian: apt-get install chromium"
    app.send_task("bench.noop").get(timeout=30)
    until(lambda: flower.counts("task-succeeded") == 1, "it has heard of the task")
    SCREENSHOT.unlink(missing_ok=True)

    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,1000"]
    command += [f"--user-data-dir={folder / 'chromium'}", "--virtual-time-budget=5000"]
    url = f"http://127.0.0.1:{flower.port}/"
    shot = subprocess.run(
        [*command, f"--screenshot={SCREENSHOT}", f"{url}worker/{OURS}"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    rendered = subprocess.run(
        [*command, "--dump-dom", f"{url}workers"], capture_output=True, timeout=120, check=False
    )

    assert shot.returncode == 0, shot.stderr.decode()
    assert SCREENSHOT.read_bytes().startswith(b"\x89PNG")
    # The list is filled by the page's own scripts.
    assert OURS in rendered.stdout.decode()
