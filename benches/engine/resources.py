"""What processes cost, from /proc."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").glob("*"):
            found += map(int, (thread / "children").read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of processes and of their children that ended."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def peak_mib(pids: Iterable[int]) -> float:
    """The most memory that each had resident (VmHWM), added up; what they share counts for each."""
    return _sum("status", r"VmHWM:\s+(\d+)", pids)


def proportional_mib(pids: Iterable[int]) -> float:
    """Memory resident now (PSS): a page that several processes share counts once."""
    return _sum("smaps_rollup", r"Pss:\s+(\d+)", pids)


def _sum(file: str, pattern: str, pids: Iterable[int]) -> float:
    found = (re.search(pattern, Path(f"/proc/{pid}/{file}").read_text()) for pid in pids)
    return sum(int(match[1]) for match in found if match) / 1024
