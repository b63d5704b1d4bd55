"""The fit of a wire to its run: which messages there are, who may miss one, and what its transforms give."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from byzax.options import PartError
from byzax.simulator.config.part import Part
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build, errors_of
from byzax.simulator.durations import WAYS, Way
from byzax.simulator.mistakes import Impossible
from byzax.simulator.parts import message_bits, parameter_shapes, topology
from byzax.simulator.transforms import Shapes, Transform, WireKeys
from byzax.simulator.transforms._chain import chained, fixed_bits
from byzax.simulator.validation.link_checks import forged_ways
from byzax.simulator.validation.tracing import is_array, is_tuple, key_spec, require_given, require_same_state, tracing
from byzax.simulator.wire import part_sizes

_MESSAGES = {"up": "rows of workers", "down": "models to workers", "peer": "messages between nodes of one kind"}


def check_wire(run: Run) -> None:
    """Checks that a run can have its wire, without building it.

    Args:
        run: The run.

    Raises:
        Impossible: One line that begins with the key, and says what would work.
    """
    structure, given = topology(run), [way for way in WAYS if getattr(run.wire, way)]
    if run.attack.wire != "encoded" and not given:
        raise Impossible(
            f"attack.wire: {run.attack.wire} says how what is forged is sent where messages are compressed, and none "
            "are: give wire, or leave attack.wire out"
        )
    if run.attack.wire != "encoded" and not forged_ways(run) & {*given}:
        ways = " or ".join(f"wire.{way}" for way in WAYS if way in forged_ways(run) & {*structure.wire})
        raise Impossible(
            f"attack.wire: {run.attack.wire} says how forged messages are sent where they are compressed, and of "
            f"{' and '.join(f'wire.{way}' for way in given)} none is forged: leave attack.wire out"
            + (f", or give {ways}" if ways else "")
        )
    for way in given:
        if way not in structure.wire:
            others = " or ".join(f"wire.{each}" for each in structure.wire)
            raise Impossible(
                f"wire.{way}: {run.topology.label} sends no {_MESSAGES[way]} that could be compressed: leave it out"
                + (f", or take {others}" if others else "")
            )
    if given and not structure.remembers and run.sends_models:
        raise Impossible(
            f"wire.{given[0]}: sums of models are compressed badly, and {run.topology.name} sums rows: leave "
            "local.send model out"
        )
    if given and run.local is not None and run.local.control_variates:
        raise Impossible(
            f"wire.{given[0]}: control variates are read off models and rows as they are: leave wire out, or "
            "local.control_variates"
        )
    if "up" in given and run.masks is not None:
        raise Impossible(
            "wire.up: rows under masks are whole numbers, whose sums no compressor keeps: leave wire.up out, or masks"
        )
    forges = any(build(each.part, run.workers.total, each.end - each.first).forge for each in run.attacks)
    if "up" in given and run.workers.byzantine.per_round == "sampled" and forges:
        raise Impossible(
            "wire.up: what a Byzantine worker sends has states of its own, and with workers.byzantine.per_round "
            "sampled nobody is Byzantine always: take per_round fixed, or leave wire.up out"
        )


def trace_wire(run: Run) -> None:
    """Traces the transforms of a run at the shapes of its model, and checks that nobody misses what they need.

    Args:
        run: The run.

    Raises:
        ScenarioError: One line that begins with the key of the transform.
    """
    if run.wire.is_plain:
        return
    with errors_of("model", run.model):
        shapes = parameter_shapes(run)
    for way in WAYS:
        parts: tuple[Part, ...] = getattr(run.wire, way)
        if not parts:
            continue
        # one that stands alone is named without its place
        keys = [f"wire.{way}" + f"[{i}]" * (len(parts) > 1) for i in range(len(parts))]
        builders = [(part.label, partial(_traced, key, part)) for key, part in zip(keys, parts, strict=True)]
        with errors_of(f"wire.{way}", parts[-1]):
            made = chained(builders, shapes)
            _check_arrivals(run, way, parts[0].label, made)
            _check_parts(run, way, builders, made)


def _check_arrivals(run: Run, way: str, label: str, made: Transform) -> None:
    """Raises PartError where a message that both ends must know may be lost, or need not have been one."""
    sender, receiver = (jax.tree.leaves(jax.eval_shape(end)) for end in (made.init, made.init_receiver))
    others = "leave it out, or take a compressor whose receiver remembers nothing, such as top_k with error_feedback"
    for key in ("loss", "crashes", "outages"):
        if receiver and getattr(run.latency, key):
            lost = f"with latency.{key} some get lost"
            raise PartError(f"both ends of {label} must know every message, and {lost}: {others}")
    rounds = topology(run).rounds
    if receiver and rounds is not None and rounds(run).pairs:
        raise PartError(
            f"both ends of {label} must know every message, and in pairs each goes to one neighbour alone: {others}"
        )
    if receiver and rounds is not None and any(step.joined is not None for step in rounds(run).steps):
        raise PartError(
            f"both ends of {label} must know every message, and in a graph that is drawn anew a node does not hear the "
            f"same ones always: {others}"
        )
    if way == "down" and (sender or receiver) and run.clock == "wall" and topology(run).one_server:
        raise PartError(
            f"{label} remembers every model that it compressed, and in a race some are of jobs that nobody uses: take "
            "clock virtual, or a compressor that remembers nothing, such as qsgd"
        )


def _check_parts(
    run: Run, way: Way, builders: Sequence[tuple[str, Callable[[Shapes], Transform]]], whole: Transform
) -> None:
    """Raises PartError where a transform cannot compress the parts of rows and models that its topology sends."""
    sizes, d, label = part_sizes(run), message_bits(run) // 32, builders[0][0]
    if not sizes:
        return
    if fixed_bits(chained(builders, ((d,),)), d) != fixed_bits(whole, d):
        raise PartError(
            f"{label} goes by the shapes of parameters, and {run.topology.name} cuts vectors into parts that have "
            "none: take another compressor, such as top_k, or another topology"
        )
    for size in {size for size in sizes if size}:
        made = chained(builders, ((size,),))
        if topology(run).remembers:
            continue
        if jax.tree.leaves(jax.eval_shape(lambda made=made: (made.init(), made.init_receiver()))):
            raise PartError(
                f"{label} remembers messages of a sender, and {run.topology.name} sends sums of other rows in each: "
                "leave what remembers out, such as error_feedback, or take topology all_gather"
            )
        if fixed_bits(made, size) is None:
            raise PartError(
                f"messages of {label} vary in size, and {run.topology.name} passes chunks on as they came: take a "
                "compressor with messages of one size, such as top_k, or topology all_gather"
            )


def _traced(key: str, part: Part, shapes: Shapes) -> Transform:
    with errors_of(key, part):
        return trace_transform(part, shapes)


def trace_transform(part: Part, shapes: Shapes) -> Transform:
    """Builds a transform and checks that a message can be encoded, counted and decoded.

    Args:
        part: The transform.
        shapes: The shapes of the parameters, or of the numbers that it gets in a list.

    Returns:
        The transform.

    Raises:
        ValueError: Where a function of it fails or gives another shape or type than it must.
    """
    made: Transform = build(part, shapes)
    d = sum(math.prod(shape) for shape in shapes)
    keys, vector = WireKeys(key_spec(), key_spec()), jax.ShapeDtypeStruct((d,), jnp.float32)
    with tracing(part, "init"):
        sender, receiver = jax.eval_shape(lambda: (made.init(), made.init_receiver()))
    with tracing(part, "encode"):
        given = jax.eval_shape(made.encode, keys, vector, sender)
    require_given(is_tuple(given, 2), part, "encode", "(message, state)", given, made.encode)
    message, after = given
    require_same_state(part, "encode", sender, after, made.encode)
    with tracing(part, "bits"):
        bits = jax.eval_shape(made.bits, message)
    require_given(is_array(bits, (), jnp.integer), part, "bits", "a number, uint32 []", bits, made.bits)
    with tracing(part, "decode"):
        given = jax.eval_shape(made.decode, keys, message, receiver)
    require_given(is_tuple(given, 2), part, "decode", "(vector, state)", given, made.decode)
    decoded, after = given
    require_given(is_array(decoded, (d,)), part, "decode", f"a vector [d={d}]", decoded, made.decode)
    require_same_state(part, "decode", receiver, after, made.decode)
    return made
