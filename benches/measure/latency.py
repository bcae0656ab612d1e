"""Added latency of a live push, and how often the process wakes for it."""

from functools import partial

from process import LOAD, in_turns, median, output

SECONDS = 4
# Each has a second of its own to warm up.
ROUNDS = 3
# Packets of 3,200 bytes in a picture at 25 a second, which asfmux hands over at once.
FRAMES = {1: 2, 2: 3, 10: 16, 100: 156}


def measure(rounds):
    """Rows of {name, mbit, burst, p50, p99, max, wakes}: microseconds, and wake-ups a second."""
    runs = {}
    for mbit in (1, 2, 10, 100):
        for burst in sorted({1, FRAMES[mbit]}):
            for element in ("asfpushsink", "tcpclientsink"):
                command = [LOAD, "paced", element, str(mbit), str(burst), str(SECONDS)]
                runs[element, mbit, burst] = partial(output, command)
    rows = []
    for (name, mbit, burst), results in in_turns(runs, min(rounds, ROUNDS), warm_up=False).items():
        columns = zip(*([float(figure) for figure in result.split()] for result in results))
        p50, p99, longest, wakes = (median(column) for column in columns)
        rows.append({"name": name, "mbit": mbit, "burst": burst,
                     "p50": p50, "p99": p99, "max": longest, "wakes": wakes})
    return {"rows": rows}
