"""Measures many destinations: one element, compared with as many branches behind a tee."""

import dataclasses
import math
import os
from functools import partial

import contenders
import media
from process import Receiver, in_turns, launch, median, usage

NUMBERS = (1, 4, 16, 64, 256)
MEGABYTES = 20
# With a tee, 256 destinations take half a minute.
ROUNDS = 2


def measure(rounds):
    """Returns rows of {destinations, name, cpu, rss}, and the cost of one more destination compared with one more curl."""
    path = media.encoded(3200, MEGABYTES)
    with Receiver() as receiver:
        def many(count):
            urls = ",".join(f"http://127.0.0.1:{receiver.http}/p{number}" for number in range(count))
            source = f"filesrc location={path} blocksize=3200"
            return launch(f"{source} ! asfpushsink locations={urls} sync=false eos-timeout=120000")

        def branches(count):
            branch = f" t. ! queue ! tcpclientsink host=127.0.0.1 port={receiver.raw} sync=false"
            return launch(f"filesrc location={path} blocksize=3200 ! tee name=t" + branch * count)

        def curl():
            # A short run takes no more than a tick of the system's clock, so a fraction of a longer one is more precise.
            used = usage(contenders.curl(media.encoded(3200), receiver.http))
            part = os.path.getsize(path) / os.path.getsize(media.encoded(3200))
            return dataclasses.replace(used, cpu=used.cpu * part, wall=used.wall * part)

        runs = {("curl", 1): curl}
        for count in NUMBERS:
            runs["asfpushsink", count] = partial(usage, many(count))
            runs["tee ! queue ! tcpclientsink", count] = partial(usage, branches(count))
        measured = in_turns(runs, min(rounds, ROUNDS))
    rows = [{
        "name": name,
        "destinations": count,
        "cpu": median(result.cpu for result in results),
        "rss": median(result.rss for result in results),
        "throughput": count * os.path.getsize(path) / 1e9 / median(result.wall for result in results),
    } for (name, count), results in measured.items()]

    def of(name, count, what):
        return next((row[what] for row in rows if (row["name"], row["destinations"]) == (name, count)), math.nan)

    push, tee = "asfpushsink", "tee ! queue ! tcpclientsink"

    def each_further(name, what, few, many):
        return (of(name, many, what) - of(name, few, what)) / (many - few)

    # From 64 on the packet buffer is full, and it is shared by all destinations.
    memory = each_further(push, "rss", 64, 256)
    return {
        "rows": rows,
        "further/curl": each_further(push, "cpu", 1, 16) / of("curl", 1, "cpu"),
        "cpu at 64": of(push, 64, "cpu") / of(tee, 64, "cpu"),
        "rss at 64": of(push, 64, "rss") / of(tee, 64, "rss"),
        "further rss": memory,
        "further rss/tee": memory / each_further(tee, "rss", 64, 256),
    }
