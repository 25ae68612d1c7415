"""What every bench is asked for on its command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Options:
    """The figures of `./dev bench --help`."""

    runs: int
    tasks: int
    slots: int
    # Of idleness, where that is measured; None: the bench's own.
    seconds: float | None
    # The most waiting messages, where those are varied; None: the bench's own.
    backlog: int | None
    only: list[str]
    json: Path | None

    def wants(self, arm: str) -> bool:
        """Whether this arm is to be run."""
        return not self.only or arm in self.only
