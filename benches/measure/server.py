"""Measures the server with 1,000 players of one stream, and Icecast, nginx, and a program that only reads and writes."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from functools import partial

from process import PLAYERS, PLUGINS, in_turns, median, output, spread

COUNT = 1000
SECONDS = 10
# Each run takes about fifteen seconds.
ROUNDS = 3
KBIT = 300
MP3_KBIT = 320
# The size in bytes of an MPEG-1 layer 3 frame at 44,100 Hz.
MP3_FRAME = 1044
OURS = "asf-publishing-point, packets of 3200"
ICECAST = "Icecast, mp3 of 320 kbit/s"
# A program without a protocol: the bound for any server that sends each packet at once.
BARE = "only reads and writes, pieces of 3200"
FOLDER = "bench-out/server"


def measure(rounds, count=COUNT, seconds=SECONDS):
    """Returns rows of {name, cpu, p50, p99, max, memory}: CPU seconds per gigabyte, microseconds, and bytes per player."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)

    def run(server, *kind):
        with server(count) as (address, process):
            line = output([PLAYERS, *map(str, kind), address, str(process), str(count), str(seconds)])
            return [float(figure) for figure in line.split()]

    runs = {
        OURS: partial(run, publishing_point, "asf", 3200, KBIT),
        ICECAST: partial(run, icecast, "icecast", MP3_FRAME, MP3_KBIT),
        "asf-publishing-point, packets of 1450": partial(run, publishing_point, "asf", 1450, KBIT),
        "asf-publishing-point, as a file, packets of 3200": partial(run, publishing_point, "asf-file", 3200, KBIT),
        "nginx, a file at 300 kbit/s": partial(run, nginx, "file", KBIT),
        BARE: partial(run, relay, "icecast", 3200, KBIT),
        "only reads and writes, pieces of 1450": partial(run, relay, "icecast", 1450, KBIT),
    }
    measured = in_turns(runs, min(rounds, ROUNDS), warm_up=False)
    rows = []
    for name, results in measured.items():
        of_each = [1e9 * cpu / received for received, cpu, *_ in results]
        _, _, _, memory, p50, p99, longest = (median(column) for column in zip(*results))
        rows.append({"name": name, "cpu": median(of_each), "runs": of_each, "memory": memory,
                     "p50": p50, "p99": p99, "max": longest})
    by_name = {row["name"]: row for row in rows}
    ours, bare = by_name.get(OURS), by_name.get(BARE)

    def ratio(one, other):
        if one not in by_name or other not in by_name:
            return None
        return spread(a / b for a, b in zip(by_name[one]["runs"], by_name[other]["runs"]))

    return {
        "rows": rows,
        "cpu/icecast": ratio(OURS, ICECAST),
        "bare/icecast": ratio(BARE, ICECAST),
        "p99 ms": ours and ours["p99"] / 1000,
        "bare p99 ms": bare and bare["p99"] / 1000,
        "memory a player": ours and ours["memory"],
    }


@contextlib.contextmanager
def running(command, address=None):
    """Runs a server during the block. Yields its address, which it prints if none is given, and its process."""
    with open(f"{FOLDER}/{os.path.basename(command[0])}.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log if address else subprocess.PIPE, stderr=log)
    try:
        if address:
            wait_for(address)
        else:
            address = process.stdout.readline().decode().split("/")[-1].strip()
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_for(address):
    host, port = address.split(":")
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, port)):
            return
        time.sleep(0.1)
    raise RuntimeError(f"nobody listens on {address}")


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def written(name, text):
    path = os.path.abspath(f"{FOLDER}/{name}")
    with open(path, "w") as file:
        file.write(text)
    return path


def publishing_point(count):
    configuration = written("server.toml", f"""
listen = '127.0.0.1:0'
log = 'warn'
max-players = {count}
[point.concert]
""")
    return running([f"{PLUGINS}/asf-publishing-point", "--config", configuration])


def icecast(count):
    address = free_address()
    # Icecast refuses to run as root, so it must change to another user.
    owner = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>" if os.geteuid() == 0 else ""
    folder = os.path.abspath(f"{FOLDER}/icecast")
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o777)
    configuration = written("icecast.xml", f"""
<icecast>
  <limits>
    <clients>{count + 10}</clients><sources>2</sources><queue-size>524288</queue-size>
    <client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>10</source-timeout>
    <burst-on-connect>0</burst-on-connect><burst-size>0</burst-size>
  </limits>
  <authentication><source-password>hackme</source-password><relay-password>hackme</relay-password>
    <admin-user>admin</admin-user><admin-password>hackme</admin-password></authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{address.split(":")[1]}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <fileserve>0</fileserve>
  <paths><basedir>/usr/share/icecast2</basedir><logdir>{folder}</logdir>
    <webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot></paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
""")
    return running(["icecast2", "-c", configuration], address)


def nginx(count):
    address = free_address()
    folder = os.path.abspath(f"{FOLDER}/nginx")
    os.makedirs(folder, exist_ok=True)
    rate = KBIT * 125
    # Long enough for players to join on a slow machine.
    with open(f"{folder}/stream", "wb") as file:
        file.truncate(rate * (SECONDS + 60))
    # Up to half of the connections belong to clients.
    configuration = written("nginx.conf", f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile {4 * count + 100}; events {{ worker_connections {2 * count + 100}; }}
http {{
  access_log off; sendfile on; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen {address} backlog=4096; root {folder}; limit_rate {rate}; }}
}}
""")
    return running(["nginx", "-e", f"{folder}/error.log", "-c", configuration], address)


def relay(_count):
    return running([PLAYERS, "relay"])
