"""The fit of a rule, and of the pre-aggregations before it, to the number of rows that they get."""

from collections.abc import Iterator
from contextlib import contextmanager

from byzax.options import PartError
from byzax.simulator.config.part import NestedPart, Part
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import ContractError, build, build_rule, errors_of, location
from byzax.simulator.parts import f_of_rule, rule_of, topology
from byzax.simulator.schedules import Schedule
from byzax.simulator.validation.row_traces import build_nested, rows_left


def check_rule(run: Run, seen: int, declared: int | None = None) -> tuple[int, int]:
    """Builds rule and pre-aggregations for `seen` rows. Returns the number of rows left to the rule, and its f."""
    left, f = seen, f_of_rule(run, seen) if declared is None else declared
    for i, each in enumerate(run.pre):
        with errors_of(f"pre[{i}]", each), _explain_rows(run, seen, f):
            left = rows_left(each, left, f)
    key, rule = rule_of(run)
    for inner_key, inner in nested_parts(rule, key):
        with errors_of(inner_key, inner):
            build_nested(inner, left, f)
    with errors_of(key, rule), _explain_rows(run, seen, f):
        build_rule(rule, run.pre, seen, f)
    return left, f


def nested_parts(part: Part, key: str) -> Iterator[tuple[str, Part]]:
    """The parts that are options of a part, with their keys, the innermost first."""
    for option in part.options():
        if isinstance(inner := getattr(part, option), NestedPart):
            yield from nested_parts(inner, f"{key}.{option}")
            yield f"{key}.{option}", inner


@contextmanager
def _explain_rows(run: Run, seen: int, f: int) -> Iterator[None]:
    """Adds the reason for the number of rows to an error of a rule or pre-aggregation about it."""
    try:
        yield
    except ContractError:
        raise
    except ValueError as error:
        if (seen, f) == (run.workers.total, run.workers.declared):
            raise
        kind = PartError if isinstance(error, PartError) else ValueError
        raise kind(f"{error}; {_describe_rows(run, seen, f)}") from error


def _describe_rows(run: Run, seen: int, f: int) -> str:
    """The reason for the rule's number of rows and f in words: the options of schedule or topology that decide them."""
    declared = run.workers.declared
    told = "" if f == declared else f", of which it is told {f} are Byzantine ({declared} declared)"
    if run.masks is not None:
        less = "" if seen == run.masks.groups else f", of which {run.masks.groups - seen} are lost in some update"
        return (
            f"with masks the rule sees the means of {run.masks.groups} groups (masks.groups){less}{told}: take more "
            "groups, another rule, or less declared"
        )
    structure = topology(run)
    n, by_schedule = run.workers.total, structure.inboxes is None
    kind, part = ("schedule", run.schedule) if by_schedule else ("topology", run.topology)
    # of parts inside the name says it
    options = {key: each.label if isinstance(each := getattr(part, key), Part) else each for key in part.options()}
    written = [f"{key} {value}" for key, value in options.items() if key in part.model_fields_set]
    # a default that makes the number
    written += [f"{key} {value}, the default" for key, value in options.items()
                if key not in part.model_fields_set and type(value) is int and value == seen]  # fmt: skip
    how = f"{part.label} ({', '.join(written)})" if written else part.label
    rows = "1 row" if seen == 1 else f"{seen} rows"
    said = f"with the {kind} {how} the rule sees {rows} of {n} workers{told}"
    if not by_schedule:
        return said if structure.explain is None else f"{said}: {structure.explain(seen)}"
    made: Schedule = build(part, n, declared)
    # of a plan the updates stand in it
    single = made.plan is None and made.due is Schedule._field_defaults["due"]
    way_out = ": a Schedule without due makes an update of each single row: give it one" if single else ""
    return f"{said}{way_out}{location(part, made.due)}"
