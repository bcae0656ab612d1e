"""Measures cold release builds: the plugin with all features, then the server."""

import os
import shutil

from process import usage

FOLDER = "bench-out/cold"
STEPS = (("plugin", ["--package", "gst-plugin-asfpush"]),
         ("plugin and server", ["--package", "gst-plugin-asfpush", "--package", "asf-publishing-point", "--bins"]))


def measure(_rounds):
    """Returns rows of {name, cpu, wall} in seconds. It runs once, because it takes minutes; other load affects only `wall`."""
    rows = []
    for name, packages in STEPS:
        shutil.rmtree(FOLDER, ignore_errors=True)
        cargo = ["cargo", "build", "--release", "--locked", "--target-dir", FOLDER, "--timings"]
        used = usage([*cargo, "--lib", *packages], timeout=3600)
        rows.append({"name": name, "cpu": used.cpu, "wall": used.wall})
    shutil.rmtree(FOLDER)
    return {"rows": rows, **{row["name"]: row["wall"] for row in rows}}
