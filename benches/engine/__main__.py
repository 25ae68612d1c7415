"""`./dev bench`: our engine beside Celery and what Redis can do, in turns."""

import argparse
from pathlib import Path

from engine import (
    backlog,
    beside_peers,
    bodies,
    canvas,
    hot,
    idle,
    latency,
    plot,
    scaling,
    throughput,
)
from engine.options import Options

BENCHES = {
    "throughput": throughput,
    "latency": latency,
    "scaling": scaling,
    "idle": idle,
    "backlog": backlog,
    "bodies": bodies,
    "canvas": canvas,
    "peers": beside_peers,
}
# What is made from measurements; no part of "all".
AFTERWARDS = {"plot": plot, "hot": hot}


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("bench", choices=[*BENCHES, "all", *AFTERWARDS])
    parser.add_argument("--runs", type=int, default=5, help="of each arm, in turns (5)")
    parser.add_argument(
        "--tasks", type=int, default=10_000, help="of the slowest arm; fast ones do more (10,000)"
    )
    parser.add_argument("--seconds", type=float, help="of idleness, for idle (20)")
    parser.add_argument("--backlog", type=int, help="at most, for backlog (5,000,000)")
    parser.add_argument("--slots", type=int, default=384, help="of our worker (384)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ARM", help="may be repeated"
    )
    parser.add_argument("--json", type=Path, help="the figures; else target/bench/BENCH.json")
    arguments = vars(parser.parse_args())
    if arguments["bench"] == "all" and arguments["json"]:
        parser.error("--json: one file is for one bench")
    bench = arguments.pop("bench")
    options = Options(**arguments)
    if bench in AFTERWARDS:
        AFTERWARDS[bench].main(options)
        return
    for name in BENCHES if bench == "all" else [bench]:
        print(f"\n{name}", flush=True)
        BENCHES[name].main(options)


if __name__ == "__main__":
    main()
