"""Measures the latency that a live push adds, and how often the process wakes up."""

from functools import partial

from process import LOAD, in_turns, median, output

SECONDS = 4
# Each run has an additional second to warm up.
ROUNDS = 3
# Number of packets of 3,200 bytes per picture at 25 pictures per second, which asfmux pushes together.
FRAMES = {1: 2, 2: 3, 10: 16, 100: 156}


def measure(rounds):
    """Returns rows of {name, mbit, burst, p50, p99, max, wakes, cpu}: microseconds, wake-ups per second, and percent of a processor."""
    runs = {}
    for mbit in (1, 2, 10, 100):
        for burst in sorted({1, FRAMES[mbit]}):
            for element in ("asfpushsink", "tcpclientsink"):
                command = [LOAD, "paced", element, str(mbit), str(burst), str(SECONDS)]
                runs[element, mbit, burst] = partial(output, command)
    rows = []
    for (name, mbit, burst), results in in_turns(runs, min(rounds, ROUNDS), warm_up=False).items():
        columns = zip(*([float(figure) for figure in result.split()] for result in results))
        p50, p99, longest, wakes, cpu = (median(column) for column in columns)
        rows.append({"name": name, "mbit": mbit, "burst": burst,
                     "p50": p50, "p99": p99, "max": longest, "wakes": wakes, "cpu": cpu})
    return {"rows": rows}
