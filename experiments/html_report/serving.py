"""The server of a report that follows a study while it runs."""

import hashlib
import threading
import warnings
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from byzax.experiments import api, marks, report
from byzax.experiments.html_report.content import content, empty_content
from byzax.experiments.html_report.page import json_in_html, page
from byzax.simulator.mistakes import ScenarioError, shorten


class Followed:
    """A study whose content is made anew when its files have changed.

    Args:
        folder: The folder of the study.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._seen = ""
        self._content: dict[str, Any] = {}

    def read(self) -> tuple[str, dict[str, Any]]:
        """Gives the content.

        Returns:
            A tag of the state of the files, and the content as they were then.
        """
        with self._lock:
            tag = self._tag()
            if tag != self._seen:
                self._content, self._seen = self._make(), tag
            return self._seen, self._content

    def _tag(self) -> str:
        """A digest of the times and sizes of all summaries and metrics."""
        found = hashlib.sha256()
        for path in sorted(self.folder.glob("runs/[!.]*/*.[cj]s*")):
            try:
                about = path.stat()
            except FileNotFoundError:
                continue
            found.update(f"{path.parent.name}/{path.name} {about.st_mtime_ns} {about.st_size}\n".encode())
        return f'"{found.hexdigest()[:32]}"'

    def _make(self) -> dict[str, Any]:
        name = report.study_name(self.folder)
        if not any(self.folder.glob("runs/[!.]*")):
            return empty_content(name, "no run has begun")
        try:
            with warnings.catch_warnings():
                # the report has a line for each damaged run
                warnings.simplefilter("ignore")
                return content(api.load(self.folder))
        except Exception as error:
            # a run that is being written, or moved, is whole a moment later
            return empty_content(name, f"cannot be read now: {shorten(str(error))}")


def open_server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Opens a server of the report of a study.

    Args:
        folder: The folder of the study.
        host: The address to listen at.
        port: The port; 0 for any free one.

    Returns:
        The server, which listens and answers once it is told to.

    Raises:
        ScenarioError: Where the folder is none of byzax, or the port cannot be taken.
    """
    if marks.read_mark(folder)[0] != "study":
        raise ScenarioError(f"{folder}: no study here: a folder that byzax run writes is needed")
    followed = Followed(folder.absolute())

    class Handler(BaseHTTPRequestHandler):
        """Answers for the page and its content."""

        def do_GET(self) -> None:
            """Gives the page, its content, or nothing where it is the same as before."""
            tag, shown = followed.read()
            place = self.path.partition("?")[0]
            if place == "/":
                self._answer(page(shown, live=True), "text/html", tag)
            elif place == "/content.json":
                if self.headers.get("If-None-Match") == tag:
                    self.send_response(HTTPStatus.NOT_MODIFIED)
                    self.end_headers()
                else:
                    self._answer(json_in_html(shown), "application/json", tag)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, text: str, kind: str, tag: str) -> None:
            body = text.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("ETag", tag)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Prints nothing: a page asks every few seconds."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ScenarioError(f"--port {port}: cannot be taken at {host} ({why}): choose another one, or 0") from None
