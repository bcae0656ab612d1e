"""Runs the measurements, prints the tables and draws the plots. `benches/run` builds the programs before."""

import argparse
import json
import os
import sys
import time

import build
import cpu
import fanout
import latency
import memory
import page
import plots
import pure
import server
import size
import syscalls
import table

PARTS = {"cpu": cpu, "fanout": fanout, "latency": latency, "memory": memory, "syscalls": syscalls, "pure": pure,
         "size": size, "server": server}
# Measurements that run only if they are named.
BY_NAME = {"build": build}
# Other names of measurements that are made together.
ALSO = {"allocations": "memory", "wakeups": "latency"}
RESULTS = "bench-out/results.json"


def main():
    parser = argparse.ArgumentParser(prog="benches/run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each contender (5)")
    parser.add_argument("--write-docs", action="store_true", help="also write the tables of docs/speed.md")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join([*PARTS, *ALSO, *BY_NAME])}; all but the last without a name")
    chosen = parser.parse_args()
    parts = [ALSO.get(name, name) for name in chosen.parts] or list(PARTS)
    for unknown in set(parts) - set(PARTS) - set(BY_NAME):
        parser.error(f"there is no part {unknown}")
    # The table keeps an earlier run's results of the other parts.
    results = {}
    if os.path.exists(RESULTS):
        with open(RESULTS) as file:
            results = json.load(file)
    for name in dict.fromkeys(parts):
        print(f"{name}:", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        results[name] = (PARTS | BY_NAME)[name].measure(chosen.rounds)
        results[name] |= {"at": time.strftime("%Y-%m-%d"), "load before": load}
        with open(RESULTS, "w") as file:
            json.dump(results, file, indent=1)
    with open("bench-out/results.md", "w") as file:
        file.write(f"{table.goals(results)}\n\n{table.sections(results)}\n")
    with open("bench-out/results.md") as file:
        print(file.read())
    plots.draw(results)
    if chosen.write_docs:
        page.write(results)
    print("bench-out/ has this table as results.md, and plots as PNG and SVG", file=sys.stderr)


main()
