"""Data sets alone with the files of a test: no environment, no network but this machine."""

import importlib
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No environment, an empty cache folder and no network."""

    def offline(url, **_):
        raise OSError(f"no route to {url}")

    monkeypatch.delenv("BYZAX_DATA", raising=False)
    monkeypatch.setenv("BYZAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pooch, "retrieve", offline)


def file_of(name):
    """The module of a data set, whose package has the function in its place."""
    return importlib.import_module(f"byzax.simulator.data.{name}")


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Serves `folder` over HTTP on this machine; gives the folder, its address, and the paths asked for."""
    monkeypatch.undo()
    monkeypatch.delenv("BYZAX_DATA", raising=False)
    monkeypatch.setenv("BYZAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    folder = tmp_path / "served"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
