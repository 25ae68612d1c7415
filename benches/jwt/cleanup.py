"""`./dev bench jwt`: `jwt_manage cleanup`, one SQL statement each, and the task as one writes it
with Django's ORM, on the same tokens, while another connection issues and revokes tokens.

Each contender has a copy of the same database. What it leaves behind is compared.
"""

import argparse
import json
import tempfile
from pathlib import Path

from contenders import CONTENDERS, run
from databases import ENGINES
from probe import Probe


def main() -> None:
    arguments = parsed()
    reports = []
    with tempfile.TemporaryDirectory(prefix="bench-jwt-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        for name, tokens in [
            ("postgres", arguments.postgres),
            ("sqlite", arguments.sqlite),
        ]:
            if tokens:
                reports += measured(name, tokens, arguments.only, Path(folder))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(reports, indent=2) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench jwt", description=__doc__)
    parser.add_argument("--postgres", type=int, default=10_000_000, metavar="TOKENS")
    parser.add_argument("--sqlite", type=int, default=1_000_000, metavar="TOKENS")
    parser.add_argument("--only", choices=CONTENDERS, action="append", help="may be given twice")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_args()


def measured(name: str, tokens: int, only: list[str] | None, folder: Path) -> list[dict]:
    print(f"\n{name}: {tokens:,} tokens", flush=True)
    engine = ENGINES[name](folder)
    reports = []
    try:
        engine.fill(tokens)
        for contender in only or CONTENDERS:
            database = engine.copy()
            if contender.endswith("indexed"):
                database.add_indexes()
            with Probe(database, tokens) as probe:
                outcome = run(contender, database)
            left = database.left_over()
            if any(left.values()):
                raise SystemExit(f"{contender} left work undone: {left}")
            report = {"engine": name, "tokens": tokens, "contender": contender}
            report |= outcome | probe.report()
            print(line(report), flush=True)
            reports.append(report)
            database.drop()
    finally:
        engine.stop()
    return reports


def line(report: dict) -> str:
    waits = ", ".join(
        f"{kind} p99 {report[kind]['p99_ms']:,.1f} ms, longest {report[kind]['longest_ms']:,.1f} ms"
        f" ({report[kind]['count']:,})"
        for kind in ["issue", "revoke"]
    )
    return (
        f"  {report['contender']:15} {report['seconds']:8.1f} s, {report['memory_mib']:6,.0f} MiB;"
        f" meanwhile {waits}"
    )


if __name__ == "__main__":
    main()
