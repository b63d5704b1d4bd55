"""Cases of parametrised tests that take long and run in `make nightly` only."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def by_night(*values: Any, id: str | None = None) -> Any:
    """The values of one case, at night only."""
    return pytest.param(*values, id=id, marks=pytest.mark.slow)


def by_day(chosen: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """All cases of one value each, of which those that are not chosen run at night only."""
    return [case if case in chosen else by_night(case) for case in cases]
