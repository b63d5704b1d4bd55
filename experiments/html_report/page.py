"""The page of a report: one HTML file with its style, its scripts and its content."""

import html
import json
import re
from importlib import resources
from typing import Any

from byzax.experiments.writing import STAMP

FILES = resources.files(__package__ or "byzax.experiments.html_report")


def page(content: dict[str, Any], live: bool = False) -> str:
    """The page with all that it needs, which loads nothing.

    Args:
        content: The content, from `content.content`.
        live: Whether the page asks its server for new content.

    Returns:
        The HTML.
    """
    parts = {
        "TITLE": html.escape(content["name"]),
        "STAMP": html.escape(STAMP),
        "LICENSE": _file("uplot/LICENSE").strip(),
        "STYLE": _file("uplot/uPlot.min.css") + _file("report.css"),
        "PLOT": _file("uplot/uPlot.iife.min.js"),
        "SCRIPT": _file("report.js"),
        "LIVE": "true" if live else "false",
        "CONTENT": json_in_html(content),
    }
    # in one pass: no part is looked at for the places of others
    return re.sub("%([A-Z]+)%", lambda match: parts[match[1]], _file("report.html"))


def json_in_html(content: Any) -> str:
    """JSON that ends no element of HTML and begins no comment.

    Args:
        content: Values of JSON.

    Returns:
        The text.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _file(name: str) -> str:
    return FILES.joinpath(name).read_text(encoding="utf-8")
