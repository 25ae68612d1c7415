"""`./dev bench jwt`: `jwt_manage cleanup`, one SQL statement each, and the task as one writes it
with Django's ORM, on the same tokens, while another connection issues and revokes tokens; then a
day on which there is little to do, the health report, and a key pair of each algorithm.

Each contender has a copy of the same database, in each round in another order. What it leaves
behind is compared.
"""

import argparse
import json
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from contenders import CONTENDERS, PEER_OF, run
from databases import ENGINES
from key_pairs_made import key_pairs_made
from probe import Probe

PHASES = ["revoke", "delete"]


def main() -> None:
    arguments = parsed()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.platform()}", flush=True)
    reports = []
    with tempfile.TemporaryDirectory(prefix="bench-jwt-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        for name, tokens in [
            ("postgres", arguments.postgres),
            ("sqlite", arguments.sqlite),
        ]:
            if tokens:
                reports += measured(name, tokens, arguments, Path(folder))
        if arguments.key_pairs:
            reports += key_pairs_made(Path(folder), arguments.key_pairs)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(reports, indent=2) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench jwt", description=__doc__)
    parser.add_argument("--postgres", type=int, default=10_000_000, metavar="TOKENS")
    parser.add_argument("--sqlite", type=int, default=1_000_000, metavar="TOKENS")
    parser.add_argument("--only", choices=CONTENDERS, action="append", help="may be given again")
    parser.add_argument("--rounds", type=int, default=1, help="how often; the medians count")
    parser.add_argument("--key-pairs", type=int, default=20, help="of each algorithm")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def measured(name: str, tokens: int, arguments: argparse.Namespace, folder: Path) -> list[dict]:
    print(f"\n{name}: {tokens:,} tokens", flush=True)
    engine = ENGINES[name](folder)
    reports = []
    try:
        engine.fill(tokens)
        contenders = arguments.only or CONTENDERS
        for number in range(arguments.rounds):
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                report = {"engine": name, "tokens": tokens, "contender": contender}
                database = engine.copy()
                report |= one(contender, database, tokens)
                reports.append(report)
                database.drop()
    finally:
        engine.stop()
    compare(reports)
    return reports


def one(contender: str, database, tokens: int) -> dict:
    """A contender's figures; printed as they come."""
    if contender.endswith("indexed"):
        database.add_indexes()
    report = {}
    for phase in PHASES:
        with Probe(database, tokens, phase) as probe:
            outcome = run(contender, phase, database)
        report[phase] = outcome | probe.report()
        print(line(contender, phase, report[phase]), flush=True)
    left = database.left_over()
    if any(left.values()):
        raise SystemExit(f"{contender} left work undone: {left}")
    report |= quiet_day(contender, database, tokens)
    if contender == "ours":
        database.add_indexes()
        later = quiet_day("ours indexed", database, tokens)
        report |= {f"{phase}_indexed": outcome for phase, outcome in later.items()}
    return report


def quiet_day(contender: str, database, tokens: int) -> dict:
    """A cleanup of one token in a thousand, and the report on all of them."""
    database.next_day(tokens // 1000)
    report = {}
    for phase in ["daily", "health"]:
        if outcome := run(contender, phase, database):
            report[phase] = outcome
            print(f"  {contender:12} {phase:6} {outcome['seconds']:8.2f} s", flush=True)
    return report


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


def compare(reports: list[dict]) -> None:
    """Our medians over those of the bare statement on the same tables."""
    for ours, peer in PEER_OF.items():
        for phase in PHASES:
            one, other = (
                [report[phase]["seconds"] for report in reports if report["contender"] == name]
                for name in [ours, peer]
            )
            if one and other:
                ratio = median(one) / median(other)
                print(f"  {phase}: {ours} takes {ratio:.2f} x as long as {peer}", flush=True)


if __name__ == "__main__":
    main()
