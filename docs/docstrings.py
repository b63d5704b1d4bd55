"""Sections of docstrings that Google's style does not have, for the pages of the API."""

import re
from typing import Any

import griffe

FIELDS = "Ages|Bits|Condition|Cost|Error|Formula|Knows|Rule|Samples|Sends|Size|Splits|Waits"


class Sections(griffe.Extension):
    """Sections `Example:` as code, and fields such as `Condition:` as paragraphs of their own."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Adds the sections of an object; griffe calls this for everything that it has read."""
        if obj.docstring is None:
            return
        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = re.sub(rf"^({FIELDS}): (?=\S)", r"\n**\1**: ", text, flags=re.MULTILINE)
