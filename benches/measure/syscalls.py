"""Counts system calls per megabyte with strace."""

import os
import subprocess

import contenders
import media
from process import ENVIRONMENT, Receiver


def measure(_rounds):
    """Returns rows of {name, calls, most}: calls per megabyte, and the most frequent ones."""
    path = media.encoded(3200, 40)
    megabytes = os.path.getsize(path) / 1e6
    with Receiver() as receiver:
        raw, http = receiver.raw, receiver.http
        runs = {
            "asfpushsink, blocks of 3200": contenders.push(path, 3200, http),
            "tcpclientsink, blocks of 3200": contenders.tcp(path, 3200, raw),
            "asfpushsink, blocks of 65536": contenders.push(path, 65536, http),
            "tcpclientsink, blocks of 65536": contenders.tcp(path, 65536, raw),
            "ffmpeg POST": contenders.ffmpeg(path, http),
            "curl": contenders.curl(path, http),
        }
        counted = {name: count(command) for name, command in runs.items()}
        # Calls during startup do not belong to the stream.
        idle = count(contenders.fake("/dev/null", 3200))
    rows = []
    for name, calls in counted.items():
        base = idle if "sink" in name else {}
        calls = {call: n - base.get(call, 0) for call, n in calls.items()}
        most = sorted(calls, key=calls.get, reverse=True)[:4]
        rows.append({"name": name, "calls": sum(calls.values()) / megabytes,
                     "most": ", ".join(f"{call} {calls[call] / megabytes:.1f}" for call in most)})
    return {"rows": rows}


def count(command):
    summary = "bench-out/strace"
    traced = ["strace", "-f", "-qq", "-c", "-U", "name,calls", "-o", summary, *command]
    subprocess.run(traced, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    with open(summary) as lines:
        rows = [line.split() for line in lines]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "total"}
