"""Throughput of other task queues on Redis, and ours, in turns."""

from engine import contenders
from engine.options import Options
from engine.peers import peers
from engine.throughput import arm, compare


def main(options: Options) -> None:
    compare("peers", [arm(contenders.ours(options.slots)), *map(arm, peers())], options)
