"""Measures processor time and throughput with one sender and one receiver."""

import os
from functools import partial

import contenders
import media
from process import LOAD, Receiver, in_turns, median, spread, usage

PUSH = "asfpushsink, blocks of 3200"
TCP = "tcpclientsink, blocks of 3200"
CURL = "curl"
PUSH_64K = "asfpushsink, blocks of 65536"
BARE = "only copies and writes, blocks of 3200"
BARE_64K = "only copies and writes, blocks of 65536"
FAKE = "fakesink, blocks of 3200"
SILENT = "asfpushsink, a server that never answers the end"


def measure(rounds):
    """Returns rows of {name, packet, cpu, throughput, rss}: CPU seconds per gigabyte, and bytes per second."""
    with Receiver() as receiver:
        raw, http = receiver.raw, receiver.http
        usual, cut, short = media.aligned(3200), media.encoded(3200), media.encoded(3200, 40)
        padded = media.padded(3200)
        runs = {
            PUSH: (usual, contenders.push(usual, 3200, http)),
            TCP: (usual, contenders.tcp(usual, 3200, raw)),
            CURL: (usual, contenders.curl(usual, http)),
            BARE: (usual, contenders.bare(usual, 3200, raw)),
            BARE_64K: (usual, contenders.bare(usual, 65536, raw)),
            "asfparse ! tcpclientsink, blocks of 3200": (usual, contenders.parsed_tcp(usual, 3200, raw)),
            SILENT: (usual, contenders.push(usual, 3200, receiver.silent)),
            FAKE: (usual, contenders.fake(usual, 3200)),
            "asfpushsink, blocks of 3200 that cut packets": (cut, contenders.push(cut, 3200, http)),
            "asfpushsink, blocks of 4096": (usual, contenders.push(usual, 4096, http)),
            "tcpclientsink, blocks of 4096": (usual, contenders.tcp(usual, 4096, raw)),
            PUSH_64K: (usual, contenders.push(usual, 65536, http)),
            "tcpclientsink, blocks of 65536": (usual, contenders.tcp(usual, 65536, raw)),
            "asfpushsink, padded, stripped": (padded, contenders.push(padded, 3200, http)),
            "asfpushsink, padded, kept": (padded, contenders.push(padded, 3200, http, "padding=keep")),
            "ffmpeg POST": (usual, contenders.ffmpeg(usual, http)),
            "souphttpclientsink (40 MB)": (short, contenders.soup(short, http)),
            "curlhttpsink (40 MB)": (short, contenders.curl_sink(short, http)),
        }
        for packet in (1444, 16000):
            path = media.aligned(packet)
            runs |= {
                f"asfpushsink, packets of {packet}": (path, contenders.push(path, packet, http)),
                f"tcpclientsink, packets of {packet}": (path, contenders.tcp(path, packet, raw)),
                f"curl, packets of {packet}": (path, contenders.curl(path, http)),
            }
        runs["receiver alone (blast)"] = (usual, [LOAD, "blast", raw, str(os.path.getsize(usual))])
        measured = in_turns({name: partial(usage, command) for name, (_, command) in runs.items()}, rounds)
    rows = []
    for name, results in measured.items():
        gigabytes = os.path.getsize(runs[name][0]) / 1e9
        rows.append({
            "name": name,
            "cpu": median(result.cpu for result in results) / gigabytes,
            "throughput": gigabytes / median(result.wall for result in results),
            "rss": median(result.rss for result in results),
            "runs": [result.cpu / gigabytes for result in results],
        })
    return {
        "rows": rows,
        "push/tcp": ratio(measured, PUSH, TCP),
        "push/tcp without source": ratio(measured, PUSH, TCP, FAKE),
        "bare/tcp": ratio(measured, BARE, TCP),
        "bare/tcp without source": ratio(measured, BARE, TCP, FAKE),
        "bare/curl": ratio(measured, BARE, CURL),
        "bare 64K/curl": ratio(measured, BARE_64K, CURL),
        "push/curl": ratio(measured, PUSH, CURL),
        "push 64K/curl": ratio(measured, PUSH_64K, CURL),
        "silent/tcp wall": ratio(measured, SILENT, TCP, of="wall"),
        "rss": median_of(measured, PUSH, "rss"),
        "rss of tcp": median_of(measured, TCP, "rss"),
    }


def ratio(measured, one, other, without=None, of="cpu"):
    """Returns median, minimum and maximum of the ratios of paired runs, after subtracting the time of `without` from both."""
    columns = [[getattr(result, of) for result in measured.get(name, [])] for name in (one, other)]
    columns.append([result.cpu for result in measured.get(without, [])] if without else [0] * len(columns[0]))
    return spread((a - c) / (b - c) for a, b, c in zip(*columns) if b > c)


def median_of(measured, name, key):
    return median(getattr(result, key) for result in measured[name]) if measured.get(name) else None
