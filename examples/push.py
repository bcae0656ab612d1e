#!/usr/bin/env python3
"""Pushes an ASF file in real time to publishing points, and prints each state change.

usage: push.py FILE URL...

Ctrl-C sends the end of the stream to all publishing points; a second Ctrl-C quits without waiting for it.
"""

import getpass
import os
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst


def element(kind):
    """Creates an element; exits with a message if its plugin is not found."""
    made = Gst.ElementFactory.make(kind)
    if made is None:
        sys.exit(f"the element {kind} was not found; set GST_PLUGIN_PATH to the directory of its plugin")
    return made


def credentials(_sink, destination, question):
    """Returns the user's credentials. The element waits on a separate thread; other destinations continue meanwhile."""
    place = f"{destination.get_name()}, {question.get_string('site')}, {question.get_string('scheme')}"
    readable = " (it is sent in clear text)" if question.get_value("clear-text") else ""
    try:
        user = input(f"user name for {place}: ")
        password = getpass.getpass(f"password{readable}: ")
    except EOFError:
        return None
    answer = Gst.Structure.new_empty("credentials")
    answer.set_value("user-id", user)
    answer.set_value("user-pw", password)
    return answer


class Push:
    """One stream that is pushed to publishing points."""

    def __init__(self, file, locations):
        self.loop = GLib.MainLoop()
        self.failure = None
        self.ending = False
        self.pipeline = Gst.Pipeline()
        source, self.sink = element("filesrc"), element("asfpushsink")
        self.pipeline.add(source)
        self.pipeline.add(self.sink)
        source.link(self.sink)
        source.set_property("location", file)
        if GObject.signal_lookup("request-credentials", self.sink):
            self.sink.connect("request-credentials", credentials)
        self.bus = self.pipeline.get_bus()
        # In NULL the bus keeps nothing, not even why a location is refused.
        self.pipeline.set_state(Gst.State.READY)
        for location in locations:
            if self.sink.emit("add", location, None) is None:
                why = self.bus.pop_filtered(Gst.MessageType.WARNING).parse_warning()[0].message
                self.pipeline.set_state(Gst.State.NULL)
                sys.exit(why)

    def run(self):
        """Returns when the stream has ended: None, or the text of the error that ended it."""
        self.bus.add_signal_watch()
        self.bus.connect("message", self.on_message)
        for number in (signal.SIGINT, signal.SIGTERM):
            GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, self.end)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        return self.failure

    def end(self):
        """Sends EOS: the element sends the rest of the stream and its end to the publishing points."""
        if self.ending:
            self.stop("quit before all publishing points were notified of the end of the stream")
        self.ending = True
        self.pipeline.send_event(Gst.Event.new_eos())
        return GLib.SOURCE_CONTINUE

    def stop(self, failure):
        self.failure = failure
        self.loop.quit()

    def on_message(self, _bus, message):
        if message.type == Gst.MessageType.ELEMENT and message.has_name("asfpushsink-status"):
            print(describe(message.get_structure()), flush=True)
        elif message.type == Gst.MessageType.WARNING:
            print(f"WARNING {message.parse_warning()[0].message}", flush=True)
        elif message.type == Gst.MessageType.ERROR:
            self.stop(message.parse_error()[0].message)
        elif message.type == Gst.MessageType.EOS:
            self.stop(None)


def describe(status):
    """Returns a state change as text: destination, step, result, and the next attempt."""
    step = status.get_value("status").value_nick
    line = f"{status.get_string('destination')} {step} {status.get_string('hresult-name')}"
    if status.has_field("retry-in"):
        line += f", next attempt in {status.get_value('retry-in')} ms"
    return line


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if not os.access(sys.argv[1], os.R_OK):
        sys.exit(f"cannot read {sys.argv[1]}")
    Gst.init(None)
    return Push(sys.argv[1], sys.argv[2:]).run()


if __name__ == "__main__":
    sys.exit(main())
