"""Formats the results as Markdown."""

import math


def goals(results):
    """Returns the table of goals with the available measurements.

    `bound` is what a program reaches that does the same work without a protocol, where there is such a program.
    """
    def part(name, key):
        return results.get(name, {}).get(key)

    def row(of, **wanted):
        rows = results.get(of, {}).get("rows", [])
        return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), {})

    heap = row("memory", packet=3200, block=3200)
    allocations = max((row["allocations"] for row in results.get("memory", {}).get("rows", [])), default=None)
    own = (heap["heap"] - heap["log"]) / 2**20 if heap else None
    p99 = row("latency", name="asfpushsink", mbit=10, burst=1).get("p99")
    p99_at_100 = row("latency", name="asfpushsink", mbit=100, burst=1).get("p99")

    def scaled(name, key, unit):
        return part(name, key) and part(name, key) / unit

    lines = [
        ("one destination, CPU against `filesrc blocksize=3200 ! tcpclientsink`", "≤", 0.75, part("cpu", "push/tcp"), "",
         part("cpu", "bare/tcp")),
        ("the same, what the source takes subtracted from both", "≤", 0.6, part("cpu", "push/tcp without source"), "",
         part("cpu", "bare/tcp without source")),
        ("the same, wall time at a server that never answers the end", "≤", 1.1, part("cpu", "silent/tcp wall"), ""),
        ("CPU against curl's upload, blocks of 3,200 bytes", "≤", 2, part("cpu", "push/curl"), "",
         part("cpu", "bare/curl")),
        ("CPU against curl's upload, blocks of 64 KiB", "≤", 0.9, part("cpu", "push 64K/curl"), "",
         part("cpu", "bare 64K/curl")),
        ("peak memory (RSS), one destination, 2 Mbit/s in real time, default properties", "≤", 14,
         scaled("memory", "live rss", 2**20), " MiB"),
        ("the same, a file with `sync=false`", "≤", 14, scaled("cpu", "rss", 2**20), " MiB"),
        ("64 destinations, CPU against tee and 64 × `queue ! tcpclientsink`", "≤", 0.5, part("fanout", "cpu at 64"), ""),
        ("the same, memory (RSS)", "≤", 1, part("fanout", "rss at 64"), ""),
        ("each further destination, memory", "≤", 32, scaled("fanout", "further rss", 1000), " KB"),
        ("each further destination, CPU against one more curl", "≤", 1.3, part("fanout", "further/curl"), ""),
        ("added latency at 10 Mbit/s live, p99", "≤", 1, p99 and p99 / 1000, " ms"),
        ("added latency at 100 Mbit/s live, p99", "≤", 0.5, p99_at_100 and p99_at_100 / 1000, " ms"),
        ("heap allocations a packet, the most of all shapes", "≤", 1, allocations, ""),
        ("own heap beside the packet buffer", "≤", 4, own, " MiB"),
        ("pure path, packets of 3,200 bytes", "≥", 5, row("pure", name="path-3200").get("gbps"), " GB/s"),
        ("server, 1,000 players, CPU a megabyte against Icecast", "≤", 0.4, part("server", "cpu/icecast"), "",
         part("server", "bare/icecast")),
        ("the same, delay, p99", "≤", 5, part("server", "p99 ms"), " ms",
         part("server", "bare p99 ms")),
        ("the same, memory a player", "≤", 12, scaled("server", "memory a player", 1000), " KB"),
        ("plugin, stripped", "≤", 4, scaled("size", "plugin stripped", 1e6), " MB"),
        ("cold release build of the plugin, two processors", "≤", 2, scaled("build", "plugin", 60), " min"),
        ("the same of plugin and server", "≤", 4, scaled("build", "plugin and server", 60), " min"),
    ]
    rows = []
    for name, relation, goal, value, unit, *bound in lines:
        low_high = ""
        if isinstance(value, list):
            value, low, high = value
            low_high = f" ({low:.2f} to {high:.2f})"
        # The bound may be missing, not measured, a value, or a median with its range.
        bound = bound[0] if bound else None
        bound = bound[0] if isinstance(bound, list) else bound
        bound = "" if bound is None else f"{bound:.2f}{unit}"
        # A failed measurement is missing, so values computed from it are not a number.
        if value is None or math.isnan(value):
            rows.append((name, f"{relation} {goal}{unit}", "not measured", "", bound))
        else:
            reached = value <= goal if relation == "≤" else value >= goal
            rows.append((name, f"{relation} {goal}{unit}", f"{value:.2f}{unit}{low_high}", "yes" if reached else "no",
                         bound))
    return table(("", "goal", "measured", "reached", "bound"), rows)


def sections(results):
    """Returns one table per available measurement."""
    text = []
    for name, (title, heads, cells) in SECTIONS.items():
        if name in results:
            rows = [tuple(cell(row) for cell in cells) for row in results[name]["rows"]]
            text.append(f"### {title}\n\n{table(heads, rows)}")
    return "\n\n".join(text)


def table(heads, rows):
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(key):
    return lambda row: str(row.get(key, ""))


def figure(key, form, scale=1):
    return lambda row: format(row[key] / scale, form) if key in row else ""


def delay(key):
    """A delay in milliseconds; a file has none."""
    return lambda row: figure(key, ".2f", 1000)(row) if row.get("max") else ""


SECTIONS = {
    "cpu": ("One sender", ("", "CPU s/GB", "GB/s", "RSS MB"), (
        text("name"), figure("cpu", ".2f"), figure("throughput", ".2f"), figure("rss", ".0f", 1e6))),
    "fanout": ("Many destinations, 20 MB to each", ("", "destinations", "CPU s", "GB/s", "RSS MB"), (
        text("name"), text("destinations"), figure("cpu", ".2f"), figure("throughput", ".2f"),
        figure("rss", ".0f", 1e6))),
    "latency": ("Live, packets of 3,200 bytes", (
        "", "Mbit/s", "packets at once", "p50 µs", "p99 µs", "max µs", "wake-ups/s", "CPU %"), (
        text("name"), text("mbit"), text("burst"), figure("p50", ".0f"), figure("p99", ".0f"), figure("max", ".0f"),
        figure("wakes", ".0f"), figure("cpu", ".2f"))),
    "memory": ("Heap", ("packet", "buffer", "allocations a packet", "peak KiB", "of it the packet buffer's limit"), (
        text("packet"), text("block"), figure("allocations", ".3f"), figure("heap", ".0f", 1024),
        figure("log", ".0f", 1024))),
    "syscalls": ("System calls", ("", "calls/MB", "most of them, per MB"), (
        text("name"), figure("calls", ".1f"), text("most"))),
    "size": ("What is built, release", ("", "MB", "MB stripped", "crates"), (
        text("name"), figure("built", ".1f", 1e6), figure("stripped", ".1f", 1e6), text("crates"))),
    "server": ("Server, 1,000 players", ("", "CPU s/GB", "delay p50 ms", "p99 ms", "max ms", "memory a player, KB"), (
        text("name"), figure("cpu", ".2f"), delay("p50"), delay("p99"), delay("max"), figure("memory", ".1f", 1000))),
    "build": ("Cold builds, release", ("", "CPU s", "s"), (text("name"), figure("cpu", ".0f"), figure("wall", ".0f"))),
    "pure": ("Pure parts", ("", "ns a packet", "GB/s"), (text("name"), figure("ns", ".0f"), figure("gbps", ".1f"))),
}
