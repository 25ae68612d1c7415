"""The benches of the engine run: what they measure is nothing that a test could judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from programs import BINARIES, CHECKOUT

RUNS = {
    "throughput": {"ours", "ceiling", "ours, ignore_result", "celery solo"},
    "latency": {"bare commands", "ours", "ours at half load, anywhere"},
    "idle": {"ours"},
    "bodies": {"bare bytes", "ours -c 2"},
}


@pytest.mark.parametrize("bench", RUNS)
def test_a_bench_measures_its_arms(bench: str, tmp_path: Path) -> None:
    figures = run(bench, tmp_path, *(word for arm in RUNS[bench] for word in ("--only", arm)))

    assert {arm: len(runs) for arm, runs in figures.items()} == dict.fromkeys(RUNS[bench], 1)


def test_the_shares_of_the_processes_are_all_that_was_done(tmp_path: Path) -> None:
    figures = run("scaling", tmp_path)

    assert {int(count): sum(runs[0]["shares"]) for count, runs in figures.items()} == {
        count: pytest.approx(count) for count in (1, 2, 4, 8)
    }


def test_a_backlog_is_waited_behind(tmp_path: Path) -> None:
    figures = run("backlog", tmp_path, "--backlog", "1000")

    assert list(figures) == ["1000"]


def test_a_canvas_is_done(tmp_path: Path) -> None:
    figures = run("canvas", tmp_path, "--only", "ours")

    assert set(figures) == {"chord of 50, ours", "chain of 50, ours"}


def run(bench: str, folder: Path, *options: str) -> dict:
    file = folder / "figures.json"
    command = [sys.executable, "-m", "engine", bench, "--runs", "1", "--tasks", "50"]
    path = os.pathsep.join([str(CHECKOUT / "benches"), str(Path(__file__).parent)])
    done = subprocess.run(
        [*command, "--seconds", "0.5", *options, "--json", str(file)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "INTEROP_BINARIES": str(BINARIES)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())["figures"]
