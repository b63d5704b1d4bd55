"""The operations in products that a function and its gradient need, counted in its program."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

# name of the function of models/_convolution.py
CONVOLUTION = "convolution"


def count_products(function: Callable[..., Any], *args: Any) -> int:
    """Counts the additions and multiplications in products of a function and of its gradient by the first argument.

    A product of matrices or a convolution counts once for its value, and once more for each factor that depends on the
    first argument, whose gradient is a product of the same size. Bodies of `scan` count for each of their steps.

    Args:
        function: The function.
        *args: Its arguments, arrays.

    Returns:
        The number.
    """
    program = jax.make_jaxpr(function)(*args).jaxpr
    first = len(jax.tree.leaves(args[0]))
    return _count(program, [i < first for i in range(len(program.invars))])[0]


def _count(program: Any, depends: Sequence[bool]) -> tuple[int, list[bool]]:
    """The operations of a program, and for each result whether it depends on the inputs that do."""
    found = dict(zip(program.invars, depends, strict=True))

    def known(variable: Any) -> bool:
        return not hasattr(variable, "val") and found.get(variable, False)

    total = inside = 0
    for equation in program.eqns:
        given = [known(variable) for variable in equation.invars]
        after = [any(given)] * len(equation.outvars)
        if equation.primitive.name in ("dot_general", "conv_general_dilated") or _is_convolution(equation):
            total += _operations(equation) * (1 + sum(given))
        elif equation.primitive.name == "scan":
            body, consts, carried = (equation.params[key] for key in ("jaxpr", "num_consts", "num_carry"))
            # the state after a step may depend on what the first state does not
            for _ in range(carried + 1):
                inside, after = _count(body.jaxpr, given)
                state = slice(consts, consts + carried)
                given[state] = [a or b for a, b in zip(given[state], after, strict=False)]
            total += inside * equation.params["length"]
        else:
            for inner in _inner_programs(equation):
                inside, after = _count(inner, given)
                total += inside
        found |= dict(zip(equation.outvars, after, strict=True))
    return total, [known(variable) for variable in program.outvars]


def _operations(equation: Any) -> int:
    left, right = (variable.aval.shape for variable in equation.invars)
    out = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * out * math.prod(left[axis] for axis in contracted)
    outputs = right[-1 if _is_convolution(equation) else equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * out * math.prod(right) // outputs


def _is_convolution(equation: Any) -> bool:
    """True for a convolution of `models/_convolution.py`, which computes some by other products."""
    inner = equation.params.get("call_jaxpr")
    return inner is not None and inner.jaxpr.debug_info.func_name == CONVOLUTION


def _inner_programs(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        if hasattr(value, "jaxpr"):
            yield value.jaxpr
        elif hasattr(value, "eqns"):
            yield value
