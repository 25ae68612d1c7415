"""What became of every message: sent against executed, and the reason of each difference."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from chaos.disturbances import Disturbance, overlapping
from chaos.events import Event
from chaos.producer import Sending

BEFORE = 1.0
"""Seconds from the claim to the begin of a run, at most."""
AFTER = 1.0
"""Seconds from the end of a run to its settlement, at most, where nothing is in the way."""
RECOVERY = 5.0
"""Seconds after an outage until whoever it hit works as before, at most."""


@dataclass(frozen=True)
class Run:
    """One execution that came to its end."""

    pid: int
    begun: float
    ended: float


@dataclass
class Ledger:
    """The account of one campaign. A message is one acknowledged or uncertain sending."""

    messages: int = 0
    """Numbers that were to be sent."""
    acknowledged: int = 0
    """Sendings that Redis has confirmed: one for each number."""
    uncertain: int = 0
    """Sendings that ended in an error."""
    uncertain_arrived: int = 0
    """Of these, those that were executed nevertheless: duplicates by the producer."""
    executions: int = 0
    """Runs that came to their end, those of retries too."""
    interrupted: int = 0
    """Runs that began and did not end."""
    once: int = 0
    more: int = 0
    lost: list[str] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why runs were repeated."""
    unexplained: list[str] = field(default_factory=list)
    without_result: list[str] = field(default_factory=list)

    def is_balanced(self) -> bool:
        return not (self.lost or self.unexplained or self.without_result)

    def lines(self) -> list[str]:
        rows = [
            ("messages sent", self.messages),
            ("sendings confirmed by Redis", self.acknowledged),
            ("sendings that ended in an error and were repeated", self.uncertain),
            ("  of these, arrived nevertheless", self.uncertain_arrived),
            ("runs that came to their end, retries included", self.executions),
            ("runs cut off in between and repeated", self.interrupted),
            ("messages executed once", self.once),
            ("messages executed more than once", self.more),
            *((f"  repeated because: {reason}", n) for reason, n in self.reasons.most_common()),
            ("  without a reason", len(self.unexplained)),
            ("dead letters", len(self.dead)),
            *((f"  {reason}", n) for reason, n in Counter(self.dead.values()).most_common()),
            ("executed without a stored result", len(self.without_result)),
            ("lost", len(self.lost)),
        ]
        lines = [f"{name:<55} {number:>9,}" for name, number in rows]
        for name in ("lost", "unexplained", "without_result"):
            if keys := getattr(self, name):
                lines.append(f"{name}: {', '.join(keys[:50])}")
        return lines


def balance(
    sendings: list[Sending],
    events: list[Event],
    disturbances: list[Disturbance],
    dead: dict[str, str],
    results: set[str],
) -> Ledger:
    """Compares what was sent with what was done.

    `dead` is the reason of each dead letter by its key, `results` holds the ids of the tasks
    whose stored result is a success.
    """
    ledger = Ledger(dead=dead)
    runs, ledger.interrupted = _runs(events)
    seen = {(event.key, event.retries) for event in events}
    ledger.executions = sum(map(len, runs.values()))
    ledger.messages = len({sending.number for sending in sendings})
    for sending in sendings:
        steps = [(sending.key, retry) for retry in range(sending.retries + 1)]
        ledger.acknowledged += sending.acknowledged
        ledger.uncertain += not sending.acknowledged
        if not sending.acknowledged:
            if not any(step in seen for step in steps):
                continue
            ledger.uncertain_arrived += 1
        if sending.key in dead:
            continue
        if any(step not in runs for step in steps):
            ledger.lost.append(sending.key)
        elif all(len(runs[step]) == 1 for step in steps):
            ledger.once += 1
        else:
            ledger.more += 1
        for step in steps:
            _explain(ledger, sending.key, runs.get(step, []), disturbances)
        if sending.task_id not in results:
            ledger.without_result.append(sending.key)
    return ledger


def _runs(events: list[Event]) -> tuple[dict[tuple[str, int], list[Run]], int]:
    """The runs that ended, and the number of those that did not."""
    runs = defaultdict(list)
    open_runs: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for event in events:
        run = (event.key, event.retries, event.pid)
        if event.event == "begun":
            open_runs[run].append(event.at)
        else:
            begun = open_runs[run].pop(0)
            runs[event.key, event.retries].append(Run(event.pid, begun, event.at))
    return dict(runs), sum(map(len, open_runs.values()))


def _explain(ledger: Ledger, key: str, runs: list[Run], disturbances: list[Disturbance]) -> None:
    """All runs but one must have been disturbed between claim and settlement."""
    missing = len(runs) - 1
    for run in runs:
        if missing == 0:
            return
        cause = _cause(run, disturbances)
        if cause:
            ledger.reasons[cause.kind] += 1
            missing -= 1
    if missing > 0:
        ledger.unexplained.append(key)


def _cause(run: Run, disturbances: list[Disturbance]) -> Disturbance | None:
    """What hit the run; before that, what hit its process so short before that it still mattered.

    What hit this process says more than what hit all.
    """
    for recovery in (0, RECOVERY):
        causes = overlapping(disturbances, run.pid, run.begun - BEFORE, run.ended + AFTER, recovery)
        if cause := min(causes, key=lambda cause: cause.pid is None, default=None):
            return cause
    return None
