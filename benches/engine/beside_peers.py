"""Throughput of other task queues on Redis, and ours, in turns."""

from engine import contenders
from engine.drain import Drain, drain
from engine.options import Options
from engine.peers import Peer, peers
from engine.throughput import Arm, arm, compare


def main(options: Options) -> None:
    found = [arm(contenders.ours(options.slots)), *(peer_arm(peer) for peer in peers())]
    compare("peers", found, options)


def peer_arm(peer: Peer) -> Arm:
    most = peer.most

    def run(tasks: int) -> Drain:
        return drain(peer, min(tasks, most) if most else tasks)

    return Arm(peer.name, peer.weight, run)
