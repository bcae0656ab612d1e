"""Measures heap allocations per packet, and the heap size of the element."""

from functools import partial

from process import LOAD, Receiver, in_turns, median, output

# Few runs suffice, because the counts hardly differ.
ROUNDS = 3


def measure(rounds):
    """Returns rows of {packet, block, allocations, heap, log}: allocations per packet, peak bytes, and the packet buffer's share."""
    with Receiver() as receiver:
        runs = {
            (packet, block): partial(output, [LOAD, "heap", str(packet), str(block), receiver.http])
            for packet in (1444, 3200, 16000) for block in (0, 4096, 65536)
        }
        measured = in_turns(runs, min(rounds, ROUNDS), warm_up=False)
    rows = []
    for (packet, block), results in measured.items():
        allocations, heap, log = (
            median(column) for column in zip(*([float(figure) for figure in result.split()] for result in results)))
        rows.append({"packet": packet, "block": block or packet,
                     "allocations": allocations, "heap": heap, "log": log})
    return {"rows": rows}
