"""Measures heap allocations per packet, and the heap size of the element."""

from functools import partial

import contenders
import media
from process import LOAD, Receiver, in_turns, median, output, usage

# Few runs suffice, because the counts hardly differ.
ROUNDS = 3
# Longer than `max-size-time`, so that the packet buffer reaches its size.
LIVE_SECONDS = 8


def measure(rounds):
    """Returns rows of {packet, block, allocations, heap, log}: allocations per packet, peak bytes, and the packet buffer's share.

    `live rss` is the peak memory of a whole process that pushes 2 Mbit/s in real time with default properties.
    """
    with Receiver() as receiver:
        runs = {
            (packet, block): partial(output, [LOAD, "heap", str(packet), str(block), receiver.http])
            for packet in (1444, 3200, 16000) for block in (0, 4096, 65536)
        }
        measured = in_turns(runs, min(rounds, ROUNDS), warm_up=False)
        live = usage(contenders.push_live(media.live(LIVE_SECONDS), receiver.http)).rss
    rows = []
    for (packet, block), results in measured.items():
        allocations, heap, log = (
            median(column) for column in zip(*([float(figure) for figure in result.split()] for result in results)))
        rows.append({"packet": packet, "block": block or packet,
                     "allocations": allocations, "heap": heap, "log": log})
    return {"rows": rows, "live rss": live}
