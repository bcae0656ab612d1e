"""Measures the size of the build outputs in bytes, before and after stripping, and counts their crates."""

import os
import subprocess

from process import PLUGINS

BUILT = (("plugin", "gst-plugin-asfpush", "libgstasfpush.so"), ("server", "asf-publishing-point", "asf-publishing-point"))


def measure(_rounds):
    """Returns rows of {name, built, stripped, crates}."""
    rows = []
    for name, package, file in BUILT:
        path, stripped = os.path.join(PLUGINS, file), "bench-out/stripped"
        subprocess.run(["strip", "-o", stripped, path], check=True)
        tree = ["cargo", "tree", "--locked", "--package", package, "--edges", "normal,build", "--prefix", "none",
                "--no-dedupe"]
        crates = subprocess.run(tree, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
        rows.append({"name": name, "built": os.path.getsize(path), "stripped": os.path.getsize(stripped),
                     "crates": len(set(crates) - {""})})
        os.remove(stripped)
    return {"rows": rows, **{f"{row['name']} stripped": row["stripped"] for row in rows}}
