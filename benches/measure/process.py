"""Processes, and what the system says they used."""

import dataclasses
import os
import statistics
import subprocess
import sys

PLUGINS = os.path.abspath(os.environ.get("PLUGINS", "target/release"))
LOAD = os.environ.get("LOAD", "")
PLAYERS = os.environ.get("PLAYERS", "")
# A registry of its own: what other plugins are installed, and how old the user's is, is no concern of these runs.
ENVIRONMENT = os.environ | {
    "GST_PLUGIN_PATH": PLUGINS,
    "GST_REGISTRY": os.path.abspath("bench-out/registry"),
    "no_proxy": "127.0.0.1",
}


@dataclasses.dataclass
class Usage:
    """One run of a process: seconds of processor (user and system), of the clock, and bytes of memory at most."""

    cpu: float
    wall: float
    rss: int


def usage(command, timeout=600):
    """Runs a command to its end. Raises where it fails: what did not arrive was not measured.

    By way of GNU time: the memory that the system tells of a child counts that of its parent, which is large here.
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
    """What a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, env=ENVIRONMENT, check=True, text=True)
    return done.stdout


def launch(pipeline):
    """The command for a pipeline."""
    return ["gst-launch-1.0", "-q", *pipeline.split()]


def in_turns(contenders, rounds, warm_up=True):
    """Runs each contender (name: function) once a round, A B C A B C …, after one round that does not count.

    That one is left out without `warm_up`.

    Gives each one's results by name. One that fails is told, and left out.
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
    """The median of an iterable."""
    return statistics.median(values)


class Receiver:
    """The null receiver, while the block runs: its ports are `raw`, `http`, and `silent`, which never answers the end."""

    def __enter__(self):
        self.process = subprocess.Popen([LOAD, "receive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.raw, self.http, self.silent = self.process.stdout.readline().split()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
