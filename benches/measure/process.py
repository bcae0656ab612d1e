"""Runs processes and measures the resources that they use."""

import dataclasses
import os
import statistics
import subprocess
import sys

PLUGINS = os.path.abspath(os.environ.get("PLUGINS", "target/release"))
LOAD = os.environ.get("LOAD", "")
PLAYERS = os.environ.get("PLAYERS", "")
# A separate registry, so that neither other plugins nor the age of the user's registry affect the measurements.
ENVIRONMENT = os.environ | {
    "GST_PLUGIN_PATH": PLUGINS,
    "GST_REGISTRY": os.path.abspath("bench-out/registry"),
    "no_proxy": "127.0.0.1",
}


@dataclasses.dataclass
class Usage:
    """One run of a process: processor seconds (user and system), elapsed seconds, and peak memory in bytes."""

    cpu: float
    wall: float
    rss: int


def usage(command, timeout=600):
    """Runs a command to its end. Raises an exception if it fails, because its measurement would be invalid.

    It uses GNU time, because a child's peak memory otherwise includes that of its parent, which is large here.
    """
    timed = ["time", "-f", "%U %S %e %M", "-o", "bench-out/time", "timeout", str(timeout), *command]
    with open("bench-out/last-run.log", "wb") as log:
        done = subprocess.run(timed, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT)
    if done.returncode != 0:
        with open("bench-out/last-run.log", errors="replace") as log:
            raise RuntimeError(f"{' '.join(command)[:200]} failed ({done.returncode}):\n{log.read()[-2000:]}")
    with open("bench-out/time") as file:
        user, system, wall, kilobytes = file.read().split()
    return Usage(float(user) + float(system), float(wall), int(kilobytes) * 1024)


def output(command):
    """Returns the output of a command."""
    done = subprocess.run(command, stdout=subprocess.PIPE, env=ENVIRONMENT, check=True, text=True)
    return done.stdout


def launch(pipeline):
    """Returns the command for a pipeline."""
    return ["gst-launch-1.0", "-q", *pipeline.split()]


def in_turns(contenders, rounds, warm_up=True):
    """Runs each contender (name: function) once per round, A B C A B C …, after a warm-up round that is not counted.

    Without `warm_up`, the warm-up round is omitted.

    Returns the results by name. A failing contender is reported and omitted.
    """
    results = {name: [] for name in contenders}
    for turn in range(0 if warm_up else 1, rounds + 1):
        for name, run in contenders.items():
            if name not in results:
                continue
            try:
                result = run()
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                del results[name]
                continue
            if turn > 0:
                results[name].append(result)
        print(f"  round {turn} of {rounds}", file=sys.stderr, flush=True)
    return results


def median(values):
    """Returns the median of an iterable."""
    return statistics.median(values)


def spread(values):
    """Returns median, minimum and maximum of an iterable; `None` if it is empty."""
    values = list(values)
    return [median(values), min(values), max(values)] if values else None


class Receiver:
    """Runs the null receiver during the block. Its ports are `raw`, `http`, and `silent`, which never responds to the end."""

    def __enter__(self):
        self.process = subprocess.Popen([LOAD, "receive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.raw, self.http, self.silent = self.process.stdout.readline().split()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
