"""Serves a test picture and sound over RTSP on a free loopback port, and prints the port."""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=25/1 ! jpegenc"
    " ! rtpjpegpay name=pay0 audiotestsrc is-live=true ! audioconvert ! alawenc ! rtppcmapay name=pay1 )"
)
factory.set_shared(True)
server.get_mount_points().add_factory("/stream", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
