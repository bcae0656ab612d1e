"""Draws the results as PNG and SVG."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plot  # noqa: E402 (the backend must be set first)

OURS, OTHERS = "#c2410c", "#64748b"


def draw(results):
    """Draws the available results to bench-out/."""
    for name, draw_one in {"cpu": cpu, "fanout": fanout, "latency": latency, "server": server}.items():
        if name in results:
            figure = draw_one(results[name]["rows"])
            figure.tight_layout()
            for kind in ("png", "svg"):
                figure.savefig(f"bench-out/{name}.{kind}", dpi=120)
            plot.close(figure)


def cpu(rows):
    rows = sorted(rows, key=lambda row: row["cpu"], reverse=True)
    figure, axes = plot.subplots(figsize=(9, 0.34 * len(rows) + 1.2))
    names = [row["name"] for row in rows]
    colours = [OURS if name.startswith("asfpushsink") else OTHERS for name in names]
    bars = axes.barh(names, [row["cpu"] for row in rows], color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("CPU seconds per gigabyte, user and system (logarithmic; less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def fanout(rows):
    figure, (left, right) = plot.subplots(1, 2, figsize=(10, 4))
    for name in dict.fromkeys(row["name"] for row in rows if row["name"] != "curl"):
        mine = sorted((row for row in rows if row["name"] == name), key=lambda row: row["destinations"])
        style = {"marker": "o", "color": OURS if name == "asfpushsink" else OTHERS, "label": name}
        counts = [row["destinations"] for row in mine]
        left.plot(counts, [row["cpu"] for row in mine], **style)
        right.plot(counts, [row["rss"] / 1e6 for row in mine], **style)
    for axes, label in ((left, "CPU seconds, 20 MB to each"), (right, "RSS, MB")):
        axes.set_xscale("log", base=4)
        axes.set_xlabel("destinations")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.spines[["top", "right"]].set_visible(False)
    left.set_yscale("log")
    right.set_ylim(bottom=0)
    left.legend(frameon=False)
    return figure


def latency(rows):
    labels = list(dict.fromkeys((row["mbit"], row["burst"]) for row in rows))
    figure, axes = plot.subplots(figsize=(10, 4))
    for shift, name, colour in ((-0.2, "asfpushsink", OURS), (0.2, "tcpclientsink", OTHERS)):
        mine = {(row["mbit"], row["burst"]): row for row in rows if row["name"] == name}
        at = [index + shift for index, label in enumerate(labels) if label in mine]
        mine = [mine[label] for label in labels if label in mine]
        axes.bar(at, [row["p99"] for row in mine], 0.38, color=colour, alpha=0.45, label=f"{name}, p99")
        axes.bar(at, [row["p50"] for row in mine], 0.38, color=colour, label=f"{name}, p50")
    axes.set_xticks(range(len(labels)), [f"{mbit} Mbit/s\n{burst} at once" for mbit, burst in labels])
    axes.set_yscale("log")
    axes.set_ylabel("render to the peer's last byte, µs")
    axes.axhline(1000, color="black", linewidth=0.8, linestyle=":")
    axes.legend(frameon=False, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def server(rows):
    rows = sorted(rows, key=lambda row: row["cpu"], reverse=True)
    figure, (cost, delay) = plot.subplots(1, 2, figsize=(12, 0.34 * len(rows) + 1.2), sharey=True)
    names = [row["name"] for row in rows]
    colours = [OURS if name.startswith("asf-publishing-point") else OTHERS for name in names]
    cost.bar_label(cost.barh(names, [row["cpu"] for row in rows], color=colours), fmt="%.2f", padding=3)
    cost.set_xlabel("CPU seconds per gigabyte, user and system")
    # nginx sends a file, which contains no timestamps.
    delay.barh(names, [row["p99"] / 1000 for row in rows], color=colours, alpha=0.45)
    delay.barh(names, [row["p50"] / 1000 for row in rows], color=colours)
    delay.set_xlabel("delay, ms: p50, p99 (pale)")
    for axes in (cost, delay):
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
