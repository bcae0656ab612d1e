"""Measures the parts without I/O: nanoseconds per packet and bytes per second, from divan."""

import os
import re

from process import output

UNITS = {"KB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12}
ITEMS = {"item/s": 1, "Kitem/s": 1e3, "Mitem/s": 1e6, "Gitem/s": 1e9}


def measure(_rounds):
    """Returns rows of {name, ns, gbps}: medians per packet."""
    rows, name = [], None
    for line in output([os.environ["PURE"], "--bench"]).splitlines():
        begins = re.match(r"\s*[│├╰─ ]+([a-z]+-[\w-]+)", line)
        name = begins.group(1) if begins else name
        columns = [column.strip() for column in re.split("│", line)]
        medians = re.findall(r"([\d.]+) ([KMGT]?B/s|[KMG]?item/s)", line)
        if len(medians) >= 3 and name:
            value, unit = medians[2]
            if unit in UNITS:
                rows.append({"name": name, "gbps": float(value) * UNITS[unit] / 1e9})
            elif rows and rows[-1]["name"] == name:
                rows[-1]["ns"] = 1e9 / (float(value) * ITEMS[unit])
    return {"rows": rows}
