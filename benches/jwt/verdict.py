"""What the rounds on one database say: medians, ours beside each peer, and the goals."""

from collections.abc import Callable
from statistics import median

from contenders import PEERS
from engine import report

PHASES = ["revoke", "delete"]
# Of the next day, on which there is little to do.
QUIET = ["daily", "health"]
HEAD = ["", "seconds", "peak MiB", "another's revoke, longest ms", "its issue, longest ms"]
# Times as long as one bare statement, at most.
RATIO = {"revoke": 1.15, "delete": 1.3}
LONGEST_WAIT_MS = 250
MEMORY_MIB = 50
QUIET_SECONDS = 1


def tell(rounds: list[dict]) -> None:
    """Prints a table of each phase, and whether the goals are met."""
    contenders = list(dict.fromkeys(figures["contender"] for figures in rounds))
    for phase in PHASES:
        rows = [row(name, of(rounds, name), phase) for name in contenders]
        print(f"\n{phase}\n{report.table(HEAD, rows)}")
    for phase in QUIET:
        rows = [
            [name, report.spread(found, 2)]
            for name in contenders
            if (found := seconds(of(rounds, name), phase))
        ]
        print(f"\n{phase}\n{report.table(['', 'seconds'], rows)}")
    print()
    for ours, peer in PEERS:
        compare(rounds, ours, peer)
    for line in goals(rounds):
        print(line, flush=True)


def row(contender: str, rounds: list[dict], phase: str) -> list[str]:
    def spread(figure: Callable[[dict], float], digits: int = 0) -> str:
        return report.spread([figure(figures[phase]) for figures in rounds], digits)

    return [
        contender,
        spread(lambda of: of["seconds"], 2),
        spread(lambda of: of["memory_mib"]),
        spread(lambda of: of["revoke"]["longest_ms"]),
        spread(lambda of: of["issue"]["longest_ms"]),
    ]


def compare(rounds: list[dict], ours: str, peer: str) -> None:
    for phase in PHASES:
        if found := ratios(rounds, ours, peer, phase):
            print(f"{phase}: {ours} takes {report.spread(found, 2)} x as long as {peer}")


def goals(rounds: list[dict]) -> list[str]:
    """Those that were measured. The wait and the memory are the worst of all rounds."""
    ours = of(rounds, "ours")
    lines = []
    for phase in PHASES:
        if found := ratios(rounds, "ours", "sql", phase):
            name = f"{phase}, x one bare statement"
            lines.append(report.goal(name, median(found), RATIO[phase], at_least=False))
    if not ours:
        return lines
    wait = max(
        figures[phase][kind]["longest_ms"]
        for figures in ours
        for phase in PHASES
        for kind in ["issue", "revoke"]
    )
    memory = max(figures[phase]["memory_mib"] for figures in ours for phase in PHASES)
    lines += [
        report.goal("longest wait of another", wait, LONGEST_WAIT_MS, at_least=False, unit=" ms"),
        report.goal("memory", memory, MEMORY_MIB, at_least=False, unit=" MiB"),
    ]
    for phase in QUIET:
        taken = median(seconds(ours, phase))
        lines.append(report.goal(phase, taken, QUIET_SECONDS, at_least=False, unit=" s"))
    return lines


def ratios(rounds: list[dict], ours: str, peer: str, phase: str) -> list[float]:
    """Of each round, as the machine was then."""
    pairs = zip(seconds(of(rounds, ours), phase), seconds(of(rounds, peer), phase), strict=False)
    return [one / other for one, other in pairs]


def of(rounds: list[dict], contender: str) -> list[dict]:
    return [figures for figures in rounds if figures["contender"] == contender]


def seconds(rounds: list[dict], phase: str) -> list[float]:
    return [figures[phase]["seconds"] for figures in rounds if phase in figures]
