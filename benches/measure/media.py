"""Creates the files that are pushed."""

import os
import shutil
import struct
import subprocess
import uuid

from process import ENVIRONMENT, LOAD

MB = 1_000_000
# The GUID of the Padding Object (ASF 3.14).
PADDING_OBJECT = uuid.UUID("1806D474-CADF-4509-A4BA-9AABCB96AAE8").bytes_le


def encoded(packet_size, megabytes=400):
    """Returns a file written by ffmpeg, which every contender can read: noise in packets of this size."""
    path = f"bench-out/encoded-{packet_size}-{megabytes}.asf"
    if not os.path.exists(path):
        part = f"bench-out/part-{packet_size}.asf"
        make("-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25,noise=alls=60:allf=t", "-t", "4", "-c:v", "wmv2",
             "-b:v", "40M", "-packet_size", str(packet_size), part)
        loops = megabytes * MB // os.path.getsize(part)
        make("-stream_loop", str(max(loops - 1, 0)), "-i", part, "-c", "copy", "-packet_size", str(packet_size),
             "-f", "asf", path + ".part")
        os.remove(part)
        os.rename(path + ".part", path)
    return path


def live(seconds):
    """Returns a file of 2 Mbit/s in packets of 3,200 bytes, which takes this long if it is pushed in real time."""
    path = f"bench-out/live-{seconds}.asf"
    if not os.path.exists(path):
        make("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25,noise=alls=40:allf=t", "-t", str(seconds), "-c:v", "wmv2",
             "-b:v", "2M", "-maxrate", "2M", "-bufsize", "1M", "-packet_size", "3200", "-f", "asf", path + ".part")
        os.rename(path + ".part", path)
    return path


def aligned(packet_size, megabytes=400):
    """Returns the same with padding in the header, so that blocks of the packet size are packets, like a muxer's."""
    path = f"bench-out/aligned-{packet_size}-{megabytes}.asf"
    if not os.path.exists(path):
        with open(encoded(packet_size, megabytes), "rb") as source, open(path + ".part", "wb") as target:
            guid, size, objects, reserved = struct.unpack("<16sQI2s", source.read(30))
            # The Header Object is followed by 50 bytes of the Data Object.
            padding = 24 + -(size + 24 + 50) % packet_size
            target.write(struct.pack("<16sQI2s", guid, size + padding, objects + 1, reserved))
            target.write(source.read(size - 30))
            target.write(PADDING_OBJECT + struct.pack("<Q", padding) + bytes(padding - 24))
            shutil.copyfileobj(source, target, MB)
        os.rename(path + ".part", path)
    return path


def padded(packet_size, megabytes=400):
    """Returns a file in whose packets a third is padding."""
    path = f"bench-out/padded-{packet_size}-{megabytes}.asf"
    if not os.path.exists(path):
        command = [LOAD, "media", path + ".part", str(packet_size), "padded", str(megabytes * MB)]
        subprocess.run(command, check=True)
        os.rename(path + ".part", path)
    return path


def make(*arguments):
    command = ["ffmpeg", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
