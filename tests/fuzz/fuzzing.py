"""One seed after the other: a scenario that is not refused is drawn, run and compared; a failure is made small."""

import copy
from typing import Any, NamedTuple

import yaml

from tests.fuzz.checking import Execute, Fault, check, refusal
from tests.fuzz.drawing import ALWAYS, GIVEN, Drawing, Files
from tests.fuzz.shrinking import shrunk

# drawings of one seed before it is given up
ATTEMPTS = 60


class Found(NamedTuple):
    """The result of a seed: its scenario, a word for the outcome, and the fault, None for none.

    `refused`: how many drawings were refused before, in one line each.
    """

    seed: int
    mapping: dict[str, Any]
    word: str
    fault: Fault | None
    refused: int


def drawn(seed: int, files: Files, cheap: bool = False) -> tuple[dict[str, Any], int]:
    """The scenario of a seed, and how many were refused on the way to it: what a refusal names is drawn anew.

    Raises Fault for a refusal that is none.
    """
    drawing = Drawing(seed, files, cheap)
    mapping = drawing.scenario()
    for refused in range(ATTEMPTS):
        try:
            said = refusal(mapping)
        except Fault as fault:
            fault.add_note(yaml.safe_dump(mapping))
            raise
        except Exception as error:
            fault = Fault(f"{type(error).__name__}: before a start: {error}")
            fault.add_note(yaml.safe_dump(mapping))
            raise fault from error
        if said is None:
            return mapping, refused
        mapping = _mended(mapping, said, drawing)
        others = [key for key in mapping if key not in GIVEN | ALWAYS]
        if others and refused > 5:
            # what is refused may be right, and what stands beside it not
            del mapping[drawing.rng.choice(others)]
    raise Fault(f"drawing: seed {seed} gave nothing that is not refused; last: {said}")


def _mended(mapping: dict[str, Any], said: str, drawing: Drawing) -> dict[str, Any]:
    """The same scenario without what a refusal names, or with another draw of it."""
    mapping = copy.deepcopy(mapping)
    key = said.splitlines()[0].partition(":")[0]
    top, *rest = key.partition("[")[0].split(".")
    if top not in mapping:
        # a default that does not fit
        top = drawing.rng.choice(["rule", "model", "data", "schedule", "attack"])
        rest = []
    if top == "workers":
        return mapping | {"workers": drawing.workers(mapping["workers"]["total"])}
    place = mapping
    for each in (top, *rest[:-1]):
        place = place[each] if rest and isinstance(place, dict) and each in place else place
    if rest and isinstance(place, dict) and rest[-1] in place and drawing.rng.random() < 0.8:
        del place[rest[-1]]
    elif top in ALWAYS or top not in mapping or drawing.rng.random() < 0.5:
        mapping[top] = drawing.part(top)
    else:
        del mapping[top]
    return mapping


def tried(seed: int, files: Files, cheap: bool = False, ray: Execute | None = None) -> Found:
    """The scenario of a seed, run and compared."""
    mapping: dict[str, Any] = {}
    refused = 0
    try:
        mapping, refused = drawn(seed, files, cheap)
        return Found(seed, mapping, check(mapping, ray), None, refused)
    except Fault as fault:
        return Found(seed, mapping, "fault", fault, refused)


def small(found: Found, ray: Execute | None = None, seconds: float = 300) -> str:
    """The failure of a seed in a few lines: what is wrong, and the smallest scenario found that has it, as YAML."""
    assert found.fault is not None
    if not found.mapping:
        return f"seed {found.seed}: {found.fault}\n" + "\n".join(getattr(found.fault, "__notes__", ()))
    kind = str(found.fault).partition(":")[0]
    last = [str(found.fault)]

    def fails(mapping: dict[str, Any]) -> bool:
        try:
            if refusal(mapping) is None:
                check(mapping, ray if kind == "ray" else None)
        except Fault as fault:
            if str(fault).partition(":")[0] == kind:
                last[:] = [str(fault)]
                return True
        return False

    mapping = shrunk(found.mapping, fails, seconds)
    return f"seed {found.seed}: {last[0]}\n{yaml.safe_dump(mapping, sort_keys=False)}"
