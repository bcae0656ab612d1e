"""The commands of the senders that are compared."""

from process import LOAD, launch


def push(path, block, http, properties=""):
    return launch(f"filesrc location={path} blocksize={block} "
                  f"! asfpushsink location=http://127.0.0.1:{http}/p sync=false {properties}")


def push_live(path, http):
    """Pushes in real time, with default properties."""
    return launch(f"filesrc location={path} ! asfpushsink location=http://127.0.0.1:{http}/p")


def tcp(path, block, raw):
    return launch(f"filesrc location={path} blocksize={block} ! tcpclientsink host=127.0.0.1 port={raw} sync=false")


def bare(path, block, raw):
    """Copies the data and writes it from a second thread: the bound for a sink that does so."""
    return [LOAD, "bare", path, str(block), raw]


def parsed_tcp(path, block, raw):
    return launch(f"filesrc location={path} blocksize={block} ! asfparse "
                  f"! tcpclientsink host=127.0.0.1 port={raw} sync=false")


def fake(path, block):
    return launch(f"filesrc location={path} blocksize={block} ! fakesink sync=false")


def soup(path, http):
    return launch(f"filesrc location={path} ! souphttpclientsink location=http://127.0.0.1:{http}/p")


def curl_sink(path, http):
    return launch(f"filesrc location={path} ! curlhttpsink location=http://127.0.0.1:{http}/p sync=false")


def ffmpeg(path, http):
    return ["ffmpeg", "-v", "error", "-i", path, "-c", "copy", "-f", "asf", "-method", "POST",
            f"http://127.0.0.1:{http}/p"]


def curl(path, http):
    return ["curl", "-sS", "-o", "/dev/null", "-T", path, f"http://127.0.0.1:{http}/p"]
