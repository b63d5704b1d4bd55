"""What the docstrings of byzax have besides the sections of Google's style, for the pages of the API."""

import re
from typing import Any

import griffe

FIELDS = "Ages|Condition|Cost|Formula|Knows|Samples|Size|Splits|Waits"


class Sections(griffe.Extension):
    """Sections `Example:` as code, and fields such as `Condition:` as paragraphs of their own."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """What griffe calls for everything that it has read."""
        if obj.docstring is None:
            return
        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = re.sub(rf"^({FIELDS}): (?=\S)", r"\n**\1**: ", text, flags=re.MULTILINE)
