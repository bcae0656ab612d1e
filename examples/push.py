#!/usr/bin/env python3
"""Pushes an ASF file in real time to publishing points, and says how it goes.

usage: push.py FILE URL...

Ctrl-C ends the stream at all of them; a second one does not wait for that.
"""

import getpass
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst


def element(kind):
    """A new element; without its plugin there is none."""
    made = Gst.ElementFactory.make(kind)
    if made is None:
        sys.exit(f"there is no {kind}; set GST_PLUGIN_PATH to the directory of its plugin")
    return made


def credentials(_sink, destination, question):
    """Answers who is pushing. The element waits for it on a thread of its own, other destinations go on."""
    place = f"{destination.get_name()}, {question.get_string('site')}, {question.get_string('scheme')}"
    readable = ", readable on its way" if question.get_value("clear-text") else ""
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
    """One stream on its way to its publishing points."""

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
        """Returns when the stream has ended: None, or why it had to."""
        self.bus.add_signal_watch()
        self.bus.connect("message", self.on_message)
        for number in (signal.SIGINT, signal.SIGTERM):
            GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, self.end)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        return self.failure

    def end(self):
        """EOS goes down behind the last packet, and the publishing points are told of the end."""
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
            print(told(message.get_structure()), flush=True)
        elif message.type == Gst.MessageType.WARNING:
            print(f"WARNING {message.parse_warning()[0].message}", flush=True)
        elif message.type == Gst.MessageType.ERROR:
            self.stop(message.parse_error()[0].message)
        elif message.type == Gst.MessageType.EOS:
            self.stop(None)


def told(status):
    """A step in words: who, what, with which outcome, and what comes next."""
    step = status.get_value("status").value_nick
    line = f"{status.get_string('destination')} {step} {status.get_string('hresult-name')}"
    if status.has_field("retry-in"):
        line += f", next attempt in {status.get_value('retry-in')} ms"
    return line


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    Gst.init(None)
    return Push(sys.argv[1], sys.argv[2:]).run()


if __name__ == "__main__":
    sys.exit(main())
