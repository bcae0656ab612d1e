#!/usr/bin/env python3
"""Pushes an ASF file to publishing points and prints status, statistics and failures.

usage: monitor.py FILE URL...

Shows what an application in Python has to know: how to set enums, flags and structures, how to read the statistics, and how to
answer the signals. Needs the Debian packages python3-gi, gir1.2-gstreamer-1.0 and python3-gst-1.0.
"""

import os
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst


def on_status(_sink, destination, status, hresult, _details):
    """Called on the element's I/O thread: return quickly."""
    # Print and compare value_nick: the type has no Python module, so print(status) raises an AttributeError.
    print(f"{destination.get_name()}: {status.value_nick} (0x{hresult:08x})")


def on_should_reconnect(_sink, destination, error):
    """Called before each retry, on a separate thread. Return True to retry: None and exceptions count as False."""
    print(f"{destination.get_name()}: {error.get_string('text')}. Remedy: {error.get_string('remedy')}")
    return error.get_string("hresult-name") != "NS_E_SERVER_ACCESSDENIED"


def print_statistics(sink):
    """Prints one line for each destination."""
    stats = sink.get_property("stats")
    try:
        destinations = stats.get_value("destinations")
    except TypeError:
        print("The statistics of each destination are an array: install python3-gst-1.0, which converts arrays.")
        return
    for destination in destinations:
        _, sent = destination.get_uint64("packets-sent")
        _, dropped = destination.get_uint64("packets-dropped")
        print(f"{destination.get_string('location')}: {sent} packets sent, {dropped} dropped")


def main(file, locations):
    Gst.init(None)
    pipeline = Gst.parse_launch("filesrc name=source ! asfpushsink name=push")
    pipeline.get_by_name("source").set_property("location", file)
    sink = pipeline.get_by_name("push")
    # Enums take their nick; flags need Gst.util_set_object_arg.
    sink.set_property("drop-policy", "block")
    Gst.util_set_object_arg(sink, "auth-methods", "digest+ntlm")
    sink.connect("status", on_status)
    sink.connect("should-reconnect", on_should_reconnect)
    for location in locations:
        # The second argument sets properties of this destination.
        options = Gst.Structure.new_empty("options")
        options.set_value("retries", 3)
        sink.emit("add", location, options)

    loop = GLib.MainLoop()
    failures = []
    interrupts = []

    def on_message(_bus, message):
        if message.type == Gst.MessageType.ERROR:
            failures.append(message.parse_error()[0].message)
            loop.quit()
        elif message.type == Gst.MessageType.EOS:
            loop.quit()

    def on_interrupt():
        """Ctrl-C sends EOS, so that the stream ends cleanly; a second Ctrl-C ends the program at once."""
        if interrupts:
            failures.append("quit before the end of the stream was sent")
            loop.quit()
        interrupts.append(signal.SIGINT)
        pipeline.send_event(Gst.Event.new_eos())
        return GLib.SOURCE_CONTINUE

    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", on_message)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, on_interrupt)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        loop.run()
        print_statistics(sink)
    finally:
        # GStreamer requires it before the pipeline is freed, after exceptions too.
        pipeline.set_state(Gst.State.NULL)
    return failures


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if not os.access(sys.argv[1], os.R_OK):
        sys.exit(f"cannot read {sys.argv[1]}")
    failures = main(sys.argv[1], sys.argv[2:])
    sys.exit(failures[0] if failures else 0)
