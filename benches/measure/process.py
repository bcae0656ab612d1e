"""Processes, and what the system says they used."""

import dataclasses
import os
import statistics
import subprocess
import sys
import time

PLUGINS = os.path.abspath(os.environ.get("PLUGINS", "target/release"))
LOAD = os.environ.get("LOAD", "")
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
    """Runs a command to its end. Raises where it fails: what did not arrive was not measured."""
    begun = time.monotonic()
    with open("bench-out/last-run.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT)
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - begun > timeout:
                process.kill()
                process.wait()
                raise RuntimeError(f"not done in {timeout} s: {' '.join(command)[:200]}")
            time.sleep(0.005)
        wall = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        with open("bench-out/last-run.log", errors="replace") as log:
            raise RuntimeError(f"{' '.join(command)[:200]} failed:\n{log.read()[-2000:]}")
    return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024)


def output(command):
    """What a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, env=ENVIRONMENT, check=True, text=True)
    return done.stdout


def launch(pipeline):
    """The command for a pipeline."""
    return ["gst-launch-1.0", "-q", *pipeline.split()]


def in_turns(contenders, rounds):
    """Runs each contender (name: function) once a round, A B C A B C …, after one round that does not count.

    Gives each one's results by name. One that fails is told, and left out.
    """
    results = {name: [] for name in contenders}
    for turn in range(rounds + 1):
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
    """The null receiver, while the block runs: `raw` and `http` are its ports."""

    def __enter__(self):
        self.process = subprocess.Popen([LOAD, "receive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.raw, self.http = self.process.stdout.readline().split()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
