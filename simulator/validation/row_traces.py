"""Traces of the parts that make, judge and aggregate rows: pre-aggregations, rules, filters and attacks."""

import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.filters import Sent
from byzax.aggregators.mixing import Neighbourhood
from byzax.attacks import Answer, Batch, View
from byzax.options import OptionError, PartError
from byzax.simulator.config.part import Part, kind_of
from byzax.simulator.contracts import build, build_rule, location, require, type_name
from byzax.simulator.validation.tracing import (
    BatchSpec,
    batch_spec,
    declared_functions,
    is_array,
    is_like,
    is_tuple,
    key_spec,
    require_given,
    require_same_state,
    tracing,
)


def _server_data(part: Part, needs: frozenset[str], own: bool, models: str, row: jax.Array) -> dict[str, Any]:
    """The functions of a context that use the server's own samples; none where it has no samples."""
    functions = {"gradient": lambda: row, "loss": jnp.sum}
    if own and models and needs & functions.keys():
        raise PartError(f"{part.label} takes rows for gradients or changes, and {models}")
    return declared_functions(part, "context", functions, needs) if own else {}


@cache
def rows_left(part: Part, n: int, f: int) -> int:
    """The number of rows that a pre-aggregation leaves.

    Args:
        part: The pre-aggregation.
        n: Number of rows that it gets.
        f: Number of them that may be Byzantine.

    Returns:
        The number of rows.

    Raises:
        ValueError: Where it does not accept these numbers.
    """
    return int(build(part, n, f).kept)


@cache
def trace_pre(part: Part, n: int, f: int, d: int) -> None:
    """Checks that a pre-aggregation can be applied.

    Args:
        part: The pre-aggregation.
        n: Number of rows that it gets.
        f: Number of them that may be Byzantine.
        d: Number of parameters.

    Raises:
        ValueError: Where `mix` fails or gives another shape or type than it must.
    """
    mixer = build(part, n, f)
    with tracing(part, "mix"):
        given = jax.eval_shape(
            lambda rows, key: mixer.mix(rows, Context(key)), jax.ShapeDtypeStruct((n, d), jnp.float32), key_spec()
        )
    require_given(is_tuple(given, 2), part, "mix", "(rows, shares)", given, mixer.mix)
    for name, value, shape in (("rows", given[0], (mixer.kept, d)), ("shares", given[1], (mixer.kept, n))):
        wanted = f"[kept={mixer.kept}, {'d' if name == 'rows' else 'n'}={shape[1]}]"
        require_given(is_array(value, shape), part, "mix", f"{name} {wanted}", value, mixer.mix)


@cache
def build_nested(part: Part, k: int, f: int) -> Aggregator | None:
    """Builds a rule that is an option of another.

    Args:
        part: The rule.
        k: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule; None where it does not accept these numbers, which the rule around it says in its own words.

    Raises:
        ContractError: Where its function gives no rule.
    """
    try:
        return build(part, k, f)
    except PartError:
        return None


@cache
def trace_rule(part: Part, before: tuple[Part, ...], k: int, f: int, d: int, own: bool, models: str) -> Any:
    """Checks that a rule can be applied.

    Args:
        part: The rule.
        before: The pre-aggregations before it.
        k: Number of rows.
        f: Number of rows that may be Byzantine.
        d: Number of parameters.
        own: Whether the server has samples of its own.
        models: The reason why rows are models, with the way out; empty where they are not.

    Returns:
        The state before the first update (traced), whether the rule gives its rows weights, and whether its aggregate
        is the sum of its rows times these.

    Raises:
        ValueError: Where `apply` fails or gives another shape or type than it must.
    """
    rule = build_rule(part, before, k, f)

    def apply(rows: jax.Array, key: jax.Array) -> tuple[Any, Any]:
        state, params = rule.init(d), rows[0]
        if kind_of(part) == "mixing":
            data = declared_functions(part, "context", {"loss": jnp.sum}, rule.needs)
            data["neighbourhood"] = Neighbourhood(jnp.arange(k) == 0, jnp.full(k, 1 / k), jnp.zeros(k, bool))
        else:
            data = _server_data(part, rule.needs, own, models, params)
        return state, rule.apply(rows, state, Context(key, params, after=lambda row: params - row, **data))

    with tracing(part, "apply"):
        start, given = jax.eval_shape(apply, jax.ShapeDtypeStruct((k, d), jnp.float32), key_spec())
    fits = is_tuple(given, 3) and isinstance(given[2], Info)
    require_given(fits, part, "apply", "(aggregate, state, Info())", given, rule.apply)
    aggregate, after, info = given
    require_given(is_array(aggregate, (d,)), part, "apply", f"an aggregate [d={d}]", aggregate, rule.apply)
    require(
        info.weights is None or is_array(info.weights, (k,)),
        f"{part.label}: Info.weights must be [n={k}] or None, got {type_name(info.weights)}"
        f"{location(part, rule.apply)}",
    )
    require_same_state(part, "apply", start, after, rule.apply)
    return start, info.weights is not None, rule.linear


@cache
def trace_filter(part: Part, n: int, f: int, d: int, own: bool) -> None:
    """Checks that a filter can judge a row.

    Args:
        part: The filter.
        n: Number of workers.
        f: Declared number of Byzantine workers.
        d: Number of parameters.
        own: Whether the server has samples of its own.

    Raises:
        ValueError: Where `judge` fails or gives another shape or type than it must.
    """
    judge = build(part, n, f)

    def judge_row(row: jax.Array, key: jax.Array, worker: jax.Array) -> tuple[Any, Any]:
        state = judge.init(row)
        context = Context(
            key, row, after=lambda aggregate: row - aggregate, **_server_data(part, judge.needs, own, "", row)
        )
        return state, judge.judge(row, Sent(worker, worker), context, state)

    with tracing(part, "judge"):
        shapes = (jax.ShapeDtypeStruct((d,), jnp.float32), key_spec(), jax.ShapeDtypeStruct((), jnp.int32))
        start, given = jax.eval_shape(judge_row, *shapes)
    require_given(is_tuple(given, 3), part, "judge", "(row, accepted, state)", given, judge.judge)
    row, accepted, after = given
    require_given(is_array(row, (d,)), part, "judge", f"a row [d={d}]", row, judge.judge)
    fits = is_array(accepted, (), jnp.bool_)
    require_given(fits, part, "judge", "a truth value for accepted", accepted, judge.judge)
    require_same_state(part, "judge", start, after, judge.judge)


@cache
def trace_attack(part: Part, n: int, f: int, k: int, d: int, samples: BatchSpec, weighs: bool) -> None:
    """Checks that an attack can forge rows and poison a batch.

    Args:
        part: The attack.
        n: Number of workers.
        f: Number of workers that carry it out.
        k: Number of rows that it sees.
        d: Number of parameters.
        samples: Shapes and types of a batch.
        weighs: Whether the rule gives its rows weights.

    Raises:
        ValueError: Where a function of the attack fails or gives another shape or type than it must, or an option does
            not fit the data.
    """
    attack = build(part, n, f)

    def forge(key: jax.Array, rows: jax.Array, byzantine: jax.Array, params: jax.Array, step: jax.Array) -> Any:
        state = attack.init(d)
        functions = {
            "ask_rule": lambda tried: Answer(tried.mean(axis=0), jnp.full(k, 1 / k) if weighs else None, tried),
            "loss": jnp.sum,
            "after": lambda aggregate: params - aggregate,
        }
        view = View(
            rows,
            byzantine,
            known=~byzantine,
            workers=jnp.arange(k),
            params=params,
            step=step,
            new=jnp.ones(k, bool),
            **declared_functions(part, "view", functions, attack.needs),
        )
        return state, attack.forge(key, view, state)  # pyright: ignore[reportOptionalCall]

    if attack.claim is not None:
        with tracing(part, "claim"):
            claimed = jax.eval_shape(attack.claim, jax.ShapeDtypeStruct((k,), jnp.float32))
        require_given(is_array(claimed, (k,)), part, "claim", f"numbers [n={k}]", claimed, attack.claim)
    if attack.forge is not None:
        shapes = [((k, d), jnp.float32), ((k,), jnp.bool_), ((d,), jnp.float32), ((), jnp.int32)]
        with tracing(part, "forge"):
            before, given = jax.eval_shape(forge, key_spec(), *(jax.ShapeDtypeStruct(*each) for each in shapes))
        require_given(is_tuple(given, 2), part, "forge", "(rows, state)", given, attack.forge)
        rows, after = given
        require_given(is_array(rows, (k, d)), part, "forge", f"rows [n={k}, d={d}]", rows, attack.forge)
        require_same_state(part, "forge", before, after, attack.forge)

    if attack.reads_labels and samples.classes is None:
        raise PartError(
            f"{part.label} changes labels, and this data has values: take feature_noise, or an attack that changes rows"
        )
    if attack.corrupt is not None:
        batch = batch_spec(samples)
        given = part.options()
        chosen = [] if given.get("labels", "targeted") != "targeted" else ["source", "target"]
        for key in chosen:
            value, last = given.get(key), (samples.classes or math.inf) - 1
            if isinstance(value, int) and value > last:
                raise OptionError(key, f"is {value}, and labels are 0 to {last}", part.label)
        if attack.goal is not None:
            with tracing(part, "trigger"):
                given = jax.eval_shape(attack.goal.trigger, batch.x)
            fits = is_array(given, batch.x.shape)
            require_given(fits, part, "trigger", type_name(batch.x), given, attack.goal.trigger)
        with tracing(part, "corrupt"):
            given = jax.eval_shape(attack.corrupt, key_spec(), batch)
        fits = isinstance(given, Batch) and is_like(given.x, batch.x) and is_like(given.y, batch.y)
        wanted = f"a Batch of x {type_name(batch.x)} and y {type_name(batch.y)}"
        require_given(fits, part, "corrupt", wanted, given, attack.corrupt)
