"""`./dev bench jwt`: `jwt_manage cleanup`, one SQL statement each, and the task as one writes it
with Django's ORM, on the same tokens, while another connection issues and revokes tokens; then a
day on which there is little to do, the health report, and a key pair of each algorithm.

Each contender has a copy of the same database that is on the disk, in each round in another order.
What it leaves behind is compared.
"""

import argparse
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import verdict
from contenders import CONTENDERS, run
from databases import ENGINES
from engine import report
from key_pairs_made import key_pairs_made
from probe import Probe
from verdict import PHASES, QUIET


def main() -> None:
    arguments = parsed()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.platform()}", flush=True)
    rounds, key_pairs = [], []
    with tempfile.TemporaryDirectory(prefix="bench-jwt-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        for name, tokens, count in [
            ("postgres", arguments.postgres, arguments.postgres_rounds),
            ("sqlite", arguments.sqlite, arguments.rounds),
        ]:
            if tokens:
                rounds += measured(name, tokens, count, arguments.only, Path(folder))
        if arguments.key_pairs:
            key_pairs = key_pairs_made(Path(folder), arguments.key_pairs)
    report.save("jwt", {"rounds": rounds, "key_pairs": key_pairs}, arguments.json)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench jwt", description=__doc__)
    parser.add_argument("--postgres", type=int, default=10_000_000, metavar="TOKENS")
    parser.add_argument("--sqlite", type=int, default=1_000_000, metavar="TOKENS")
    parser.add_argument("--rounds", type=int, default=5, help="on SQLite (5)")
    parser.add_argument("--postgres-rounds", type=int, default=1, help="on PostgreSQL (1)")
    parser.add_argument("--only", choices=CONTENDERS, action="append", help="may be given again")
    parser.add_argument("--key-pairs", type=int, default=20, help="of each algorithm")
    parser.add_argument("--json", type=Path, help="the figures; else target/bench/jwt.json")
    return parser.parse_args()


def measured(
    name: str, tokens: int, rounds: int, only: list[str] | None, folder: Path
) -> list[dict]:
    print(f"\n{name}: {tokens:,} tokens", flush=True)
    engine = ENGINES[name](folder)
    figures = []
    try:
        engine.fill(tokens)
        contenders = only or CONTENDERS
        for number in range(rounds):
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                found = {"engine": name, "tokens": tokens, "contender": contender}
                database = engine.copy()
                figures.append(found | one(contender, database, tokens))
                database.drop()
    finally:
        engine.stop()
    verdict.tell(figures)
    return figures


def one(contender: str, database, tokens: int) -> dict:
    """A contender's figures; printed as they come."""
    if contender.endswith("indexed"):
        database.add_indexes()
    figures = {}
    for phase in PHASES:
        with Probe(database, tokens, phase) as probe:
            outcome = run(contender, phase, database)
        figures[phase] = outcome | probe.report()
        print(line(contender, phase, figures[phase]), flush=True)
    left = database.left_over()
    if any(left.values()):
        raise SystemExit(f"{contender} left work undone: {left}")
    figures |= quiet_day(contender, database, tokens)
    if contender == "ours":
        database.add_indexes()
        later = quiet_day("ours indexed", database, tokens)
        figures |= {f"{phase}_indexed": outcome for phase, outcome in later.items()}
    return figures


def quiet_day(contender: str, database, tokens: int) -> dict:
    """A cleanup of one token in a thousand, and the report on all of them."""
    database.next_day(tokens // 1000)
    figures = {}
    for phase in QUIET:
        if outcome := run(contender, phase, database):
            figures[phase] = outcome
            print(f"  {contender:12} {phase:6} {outcome['seconds']:8.2f} s", flush=True)
    return figures


def line(contender: str, phase: str, figures: dict) -> str:
    waits = ", ".join(
        f"{kind} p99 {figures[kind]['p99_ms']:,.1f} ms, longest {figures[kind]['longest_ms']:,.1f}"
        f" ms ({figures[kind]['count']:,})"
        for kind in ["issue", "revoke"]
    )
    return (
        f"  {contender:12} {phase:6} {figures['seconds']:8.2f} s,"
        f" {figures['memory_mib']:6,.0f} MiB; meanwhile {waits}"
    )


if __name__ == "__main__":
    main()
