"""Writes the tables of docs/speed.md between their markers."""

import os

import table

PAGE = "docs/speed.md"


def write(results):
    """Replaces the tables of the page by those of these results."""
    with open(PAGE) as file:
        text = file.read()
    text = between(text, "goals", f"{machine(results)}\n\n{table.goals(results)}")
    text = between(text, "tables", table.sections(results))
    with open(PAGE, "w") as file:
        file.write(text)


def between(text, name, content):
    begin, end = f"<!-- begin {name}: written by benches/run --write-docs -->", f"<!-- end {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise RuntimeError(f"{PAGE} has no line {begin!r} before a line {end!r}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def machine(results):
    """Returns a sentence about when and where the figures were measured."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown processor")
    days = sorted({part["at"].split()[0] for part in results.values()})
    days = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    load = max(part.get("load before", 0) for part in results.values())
    return (f"Measured on {days} with {os.cpu_count()} processors ({model}), over loopback. "
            f"The load average of the machine before each part was at most {load:.1f}.")
