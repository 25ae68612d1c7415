"""Writes worker/hot.ld: which functions a worker runs from its start on, so that the linker puts
them side by side.

A processor's page holds many functions, and the system maps sixteen pages at a time: where those
that run lie scattered among six times as many that do not, nearly all of the program is resident.
"""

import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from engine import contenders
from engine.drain import warm_up
from engine.nodes import await_nodes
from engine.options import Options
from engine.site import new_site
from programs import CHECKOUT, binary

FILE = CHECKOUT / "worker" / "hot.ld"
# Long enough for each periodic look of an idle worker, however slow callgrind makes it.
IDLE_SECONDS = 30
BATCH = 2_000
CALLGRIND = ["valgrind", "--tool=callgrind", "--demangle=no", "--callgrind-out-file=callgrind.out"]
# Rust puts hashes into names, which another compiler or another feature changes: of the function at
# the end of a name in the old form, of crates in the new one, and of what an optimisation shared.
HASH = re.compile(r"(?<=17h)[0-9a-f]{16}E(\.llvm\.\d+)?$|(?<=Cs)[0-9A-Za-z]+(?=_)|\.llvm\.\d+$")
HEAD = """\
/* Written by `./dev bench hot`: what a worker runs from its start on comes first in the program,
   side by side. Elsewhere the same functions lie among six times as many that it never runs, and as
   the system maps 64 KiB around each that is called, nearly all of the program would be resident.

   A name that is gone does no harm; a function that is missing costs up to 64 KiB. Names are
   without the hashes that the compiler puts into them, but where most of what bears a name never
   runs: there those that run come first by their hashes, as long as these are right. */
SECTIONS
{
  .text.hot :
  {
"""
# What is missing above, because it is new or seldom runs, at least lies near: the crates that an
# engine consists of.
TAIL = """\
    *(.text.*12celery_redis* .text.*celery_redis..* .text.*6worker* .text.*worker..*)
    *(.text.*5tokio* .text.*tokio..* .text.*5redis* .text.*redis..*)
  }
}
INSERT BEFORE .text;
"""
# Of what bears a name without hashes, the part that has to run so that all of it comes first.
ENOUGH = 0.6


def main(options: Options) -> None:
    first, second = chosen(functions_run(options), sizes(Path(binary("interop-worker"))))
    names = sorted(first) + sorted(second)
    # The compiler puts into .text.unlikely what the source calls cold: how a vector grows, say.
    lines = [f"    *(.text*.{name})\n" for name in names]
    FILE.write_text(HEAD + "".join(lines) + TAIL)
    print(f"written: {FILE}, {len(first)} names, and {len(second)} without the hashes of some")


def chosen(run: set[str], size: dict[str, int]) -> tuple[set[str], set[str]]:
    """What comes first, and what comes next because first come only some of that name."""
    alike = Counter[str]()
    ran = Counter[str]()
    for name, octets in size.items():
        alike[HASH.sub("*", name)] += octets
        ran[HASH.sub("*", name)] += octets * (name in run)
    first, second = set[str](), set[str]()
    for name in run & size.keys():
        without = HASH.sub("*", name)
        if ran[without] >= ENOUGH * alike[without]:
            first.add(without)
        else:
            first.add(name)
            second.add(without)
    return first, second


def functions_run(options: Options) -> set[str]:
    """The functions of the program that a worker's start, tasks, an idle time and its end run."""
    if shutil.which("valgrind") is None:
        raise RuntimeError("valgrind is missing; install the package of that name")
    contender = contenders.ours(options.slots)
    contender.command = CALLGRIND + contender.command
    with new_site() as site:
        contender.start(site)
        await_nodes(site, 1)
        warm_up(contender, site)
        contender.prepare(site, 0, BATCH)
        contender.release(site)
        time.sleep(IDLE_SECONDS)
        site.workers[0].send(signal.SIGTERM)
        site.workers[0].wait(60)
        seen = (site.folder / "callgrind.out").read_text(errors="replace")
    return set(re.findall(r"^c?fn=\(\d+\) (\S+?)(?:'\d+)?$", seen, re.MULTILINE))


def sizes(program: Path) -> dict[str, int]:
    """The functions that a program has, in bytes."""
    command = ["nm", "-S", str(program)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\S+ (\S+) [tTwW] (\S+)$", listed, re.MULTILINE)
    return {name: int(octets, 16) for octets, name in found}
