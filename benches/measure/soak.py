"""Draws the measurements of a soak test as PNG and SVG. `scripts/soak` has written them to the folder in the argument."""

import csv
import sys

from plots import OTHERS, OURS, plot

SERVERS = ["#0369a1", "#15803d", "#7c3aed", "#be185d"]


def main(folder):
    with open(f"{folder}/soak.csv") as file:
        rows = list(csv.DictReader(file))
    with open(f"{folder}/events.csv") as file:
        events = list(csv.DictReader(file))
    figure = draw(rows, events)
    figure.tight_layout()
    for kind in ("png", "svg"):
        figure.savefig(f"{folder}/soak.{kind}", dpi=120)
    print(f"{folder}/ has soak.csv, events.csv, soak.png and soak.svg", file=sys.stderr)


def column(rows, name):
    """Returns the numbers, and None while the server did not run."""
    return [float(row[name]) if row[name] else None for row in rows]


def draw(rows, events):
    minutes = [float(row["seconds"]) / 60 for row in rows]
    figure, (memory, counts, queue, losses) = plot.subplots(4, 1, figsize=(11, 12), sharex=True)

    memory.plot(minutes, [value / 1024 for value in column(rows, "rss_kib")], color=OURS, label="pusher")
    for index, colour in enumerate(SERVERS):
        values = [value and value / 1024 for value in column(rows, f"server_rss_kib_{index}")]
        memory.plot(minutes, gaps(values), color=colour, linewidth=0.8, label=f"server {index}")
    memory.set_ylabel("RSS, MiB")

    counts.plot(minutes, column(rows, "threads"), color=OURS, label="threads")
    counts.plot(minutes, column(rows, "descriptors"), color=OTHERS, label="descriptors")
    counts.set_ylabel("of the pusher")

    for index, colour in enumerate(SERVERS):
        queue.plot(minutes, column(rows, f"queued_{index}"), color=colour, linewidth=0.8, label=f"server {index}")
        at = [float(event["seconds"]) / 60 for event in events if event["server"] == str(index)]
        queue.plot(at, [-12 * (index + 1)] * len(at), "|", color=colour, markersize=5)
        losses.plot(minutes, column(rows, f"dropped_{index}"), color=colour, label=f"{index}: dropped")
        losses.plot(minutes, column(rows, f"uncertain_{index}"), color=colour, linestyle=":", label=f"{index}: uncertain")
    queue.set_ylabel("packets queued\n(below: troubles)")
    losses.plot(minutes, [value / 100 for value in column(rows, "sent_0")], color="black", linewidth=0.8,
                label="a hundredth of what server 0 was sent")
    losses.set_ylabel("packets in all")
    losses.set_xlabel("minutes")
    for axes in (memory, counts, queue, losses):
        axes.grid(alpha=0.3)
        axes.margins(y=0.25)
        axes.legend(frameon=False, ncols=5, fontsize="small", loc="upper left")
        axes.set_ylim(bottom=None if axes is queue else 0)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def gaps(values):
    """Replaces None with a value that a plot omits."""
    return [float("nan") if value is None else value for value in values]


main(*sys.argv[1:])
