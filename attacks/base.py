"""Types of attacks, types of their options, and statistics that every file of this folder shares."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from byzax import members
from byzax.members import place_of
from byzax.options import Nested, PartError

Array = jax.Array
State = Any

# types of options
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Label = Annotated[int, Field(ge=0)]

# the functions of a `View` that an attack may call, as `Attack.needs` names them
Need = Literal["ask_rule", "loss", "after"]
ASKS_RULE: frozenset[Need] = frozenset({"ask_rule"})


class Answer(NamedTuple):
    """The answer of the rule in use to rows that an attack tries.

    Attributes:
        aggregate: `[d]`.
        weights: `[n]`, the share of each row in the aggregate; None where the rule gives its rows none.
        rows: `[n, d]`, those that the rule was asked about. They differ from the rows tried where the server keeps old
            rows: an old row is not replaced by one that is tried.
    """

    aggregate: Array
    weights: Array | None
    rows: Array


class AskRule(Protocol):
    """Asks the rule in use."""

    def __call__(self, rows: Array, /) -> Answer:
        """The `Answer` to rows `[n, d]`, in the rule's present state, without the filter where there is one."""
        ...


class ModelLoss(Protocol):
    """Measures a model on samples of the Byzantine workers."""

    def __call__(self, params: Array, /) -> Array:
        """The mean loss of the model `[d]`, a scalar."""
        ...


class After(Protocol):
    """Makes an update without taking it."""

    def __call__(self, aggregate: Array, /) -> Array:
        """The model `[d]` that follows from `View.params` where the rule's answer is the aggregate `[d]`.

        By the optimizer of the server, with its rate, momentum and bound.
        """
        ...


class View(NamedTuple):
    """The adversary's knowledge of one update.

    Attributes:
        rows: `[n, d]`, what each worker computed by the protocol, the Byzantine ones included: gradients, or changes of
            the model as a descent, also where workers send models. Where a row is hidden from the adversary, one that
            it knows stands in its place.
        byzantine: `[n]`, the rows that the adversary may replace. An update of fewer than all workers may hold fewer
            than f of them.
        known: `[n]`, the rows that tell the adversary what honest workers send, from which all statistics are taken:
            those of the honest workers where it sees everything.
        workers: `[n]`, the number of the worker of each row; below 0 where a row only fills up an update.
        params: `[d]`, the model of the server.
        ask_rule: Asks the rule in use.
        loss: Measures a model on samples of the Byzantine workers.
        step: The server's count of updates so far.
        receiver: The number of the server or node that the rows go to; 0 where there is one server.
        own: `[n]`, true for the row of the receiver itself; nowhere where that is a server.
        new: `[n]`, the rows that came for this update. All others are the last ones that the server keeps, or that an
            adversary remembers to whom rows come one at a time.
        counts: `[n]`, the weight of each row by itself: the number of samples that its worker says it holds where rows
            weigh by samples, the weight of its edge where the receiver mixes by these, else 1.
        rate: The factor between aggregate and update where rows are changes of the model and the server's optimizer is
            plain SGD, else 1.
        after: Makes an update without taking it; None where there is no server.
    """

    rows: Array
    byzantine: Array
    known: Array
    workers: Array
    params: Array
    ask_rule: AskRule
    loss: ModelLoss
    step: Array
    receiver: Array | np.int32 = np.int32(0)
    own: Array | np.bool_ = np.bool_(False)
    new: Array | np.bool_ = np.bool_(True)
    counts: Array | np.float32 = np.float32(1)
    rate: Array | np.float32 = np.float32(1)
    after: After | None = None


def view_of(
    rows: Array,
    byzantine: Array,
    *,
    apply: Callable[[Array], tuple[Array, Any, Any]] | None = None,
    params: Array | None = None,
    loss: ModelLoss | None = None,
    step: int | Array = 0,
) -> View:
    """The view of an adversary that sees everything, for a training loop of one's own.

    Args:
        rows: `[n, d]`, what each worker computed.
        byzantine: `[n]`, truth values: which of them are Byzantine.
        apply: The rule in use, for attacks that ask it: `lambda rows: rule.apply(rows, state)`.
        params: The model `[d]`; zeros without one.
        loss: The loss of a model `[d]`, for attacks that measure harm by it.
        step: Updates so far.

    Returns:
        The view that `Attack.forge(key, view, state)` takes. An attack that needs what was not given raises ValueError.

    Raises:
        ValueError: For rows that are not `[n, d]`, or a number of truth values that is not n.

    Example:
        >>> rows, byzantine = jnp.ones((3, 2)), jnp.array([True, False, False])
        >>> view_of(rows, byzantine).known.tolist()
        [False, True, True]
    """
    rows, byzantine = jnp.asarray(rows), jnp.asarray(byzantine, bool)
    if rows.ndim != 2 or byzantine.shape != rows.shape[:1]:
        raise ValueError(
            f"view_of needs rows [n, d] and n truth values, got rows {list(rows.shape)} and {list(byzantine.shape)}"
        )

    def ask_rule(tried: Array) -> Answer:
        if apply is None:
            raise ValueError("this attack asks the rule: give view_of apply=lambda rows: rule.apply(rows, state)")
        aggregate, _, info = apply(tried)
        return Answer(aggregate, info.weights, tried)

    def no_loss(params: Array) -> Array:
        raise ValueError("this attack measures the loss: give view_of loss=, a function of a model [d]")

    n, d = rows.shape
    return View(
        rows,
        byzantine,
        known=~byzantine,
        workers=jnp.arange(n),
        params=jnp.zeros(d, rows.dtype) if params is None else params,
        ask_rule=ask_rule,
        loss=loss or no_loss,
        step=jnp.asarray(step),
        new=jnp.ones(n, bool),
        counts=jnp.ones(n),
    )


class Batch(NamedTuple):
    """One batch of samples of a Byzantine worker, in units of the data's range and before they are normalised.

    0 is the background of images (black, or paper) and the lowest value of a table's feature, 1 the other end.
    Characters are as they are.

    Attributes:
        x: `[b, ...]`, the samples.
        y: `[b]`, labels in 0..`classes`-1, or values.
        classes: The number of labels, a scalar; None where the data has values in place of labels.
        rank: Number of the worker that trains on the batch, among the attack's Byzantine workers, 0..f-1.
        real: Number of samples, where the others, at the end, only fill up the batch and count for nothing;
            None for all.
    """

    x: Array
    y: Array
    classes: Array | None
    rank: Array | int = 0
    real: Array | None = None


class Trigger(Protocol):
    """Puts the trigger of a backdoor into samples."""

    def __call__(self, x: Array, /) -> Array:
        """The samples `[b, ...]`, in units of the data's range, with the trigger."""
        ...


class Goal(NamedTuple):
    """The aim of a backdoor, by which its success is measured.

    Attributes:
        target: The label that samples with the trigger should get.
        trigger: Puts the trigger into samples.
    """

    target: int
    trigger: Trigger


class AttackInit(Protocol):
    """Makes the state of an attack."""

    def __call__(self, d: int, /) -> State:
        """The state before the first update, for rows of `d` coordinates."""
        ...


class Forge(Protocol):
    """Makes the rows that Byzantine workers send."""

    def __call__(self, key: Array, view: View, state: State, /) -> tuple[Array, State]:
        """Rows `[n, d]`, of which only the Byzantine ones are used, and the state after the update."""
        ...


class Corrupt(Protocol):
    """Poisons the data of Byzantine workers."""

    def __call__(self, key: Array, batch: Batch, /) -> Batch:
        """The batch that the worker trains on in place of `batch`."""
        ...


class Claim(Protocol):
    """States how many samples Byzantine workers hold, truly or not."""

    def __call__(self, samples: Array, /) -> Array:
        """The numbers `[n]` of samples that workers say they hold, of those `[n]` that they do."""
        ...


class Attack(NamedTuple):
    """An attack by `f` of `n` workers, as pure functions. `forge`, `corrupt`, `goal`, `claim` are None where not used.

    Attributes:
        init: Makes the state before the first update.
        forge: Makes the rows that Byzantine workers send.
        corrupt: Poisons the batch that a Byzantine worker trains on.
        goal: The aim of a backdoor, by which its success is measured.
        claim: States how many samples Byzantine workers hold, truly or not.
        questions: Number of times that `forge` asks the rule in one update.
        needs: The functions of the `View` that `forge` calls, of "ask_rule", "loss" and "after".
        reads_labels: Whether `corrupt` reads or changes labels, so that the data has to have them.
        least_known: Rows that its workers have to know to change anything; where they know one, their own, and this is
            2, they send that one.
        by_receiver: Whether what `forge` makes depends on `View.receiver` or `View.own`; refused where there is one
            server.
        reads_own: Whether what `forge` makes depends on the rows that its own workers computed. Where it does not,
            these rows are not computed, and NaN or anything else may stand in their places.
    """

    init: AttackInit = lambda d: ()
    forge: Forge | None = None
    corrupt: Corrupt | None = None
    goal: Goal | None = None
    claim: Claim | None = None
    questions: CountOrZero = 0
    needs: frozenset[Need] = frozenset()
    reads_labels: bool = False
    least_known: Count = 1
    by_receiver: bool = False
    reads_own: bool = True


def check(name: str, n: int, f: int) -> None:
    """Checks the number of workers and that of Byzantine ones; with f = 0 nobody carries out the attack.

    Args:
        name: Of the attack, for the message.
        n: Number of workers.
        f: Number of Byzantine workers among them.

    Raises:
        PartError: Unless 0 <= f <= n and n >= 1.
    """
    if n < 1 or not 0 <= f <= n:
        raise PartError(f"{name} needs n >= 1 workers and 0 <= f <= n of them Byzantine, got n={n}, f={f}")


def classes_of(name: str, batch: Batch) -> Array:
    """The number of labels of the data.

    Args:
        name: Of the attack, for the message.
        batch: A batch of the data.

    Returns:
        The number, a scalar.

    Raises:
        PartError: Where the data has values in place of labels.
    """
    if batch.classes is None:
        raise PartError(
            f"{name} changes labels, and this data has values: take feature_noise, or an attack that changes rows"
        )
    return batch.classes


def stateless(
    make_rows: Callable[[Array, View], Array],
    needs: frozenset[Need] = frozenset(),
    questions: int = 0,
    least_known: int = 1,
    reads_own: bool = True,
) -> Attack:
    """An attack without state, from a function that makes the Byzantine rows.

    Args:
        make_rows: `make_rows(key, view)` gives one row `[d]`, the same for each Byzantine worker, or rows `[n, d]`.
        needs: The functions of the view that it calls, as in `Attack`.
        questions: Number of times that it asks the rule.
        least_known: Rows that it has to know, as in `Attack`.
        reads_own: Whether it reads the rows of its own workers, as in `Attack`.

    Returns:
        The attack; honest rows stay as they are, and the type of the rows is kept.
    """

    def forge(key: Array, view: View, state: State) -> tuple[Array, State]:
        made = make_rows(key, view)
        dtype, shape = getattr(made, "dtype", None), getattr(made, "shape", None)
        fits = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
        if not fits or shape not in (view.rows.shape, view.rows.shape[1:]):
            given = type(made).__name__ if dtype is None or shape is None else f"{dtype}{list(shape)}"
            n, d = view.rows.shape
            raise TypeError(
                f"this function must give rows [n={n}, d={d}] or one row [d={d}] of floating-point numbers, got {given}"
                f"{place_of(make_rows)}"
            )
        return jnp.where(view.byzantine[:, None], made.astype(view.rows.dtype), view.rows), state

    return Attack(forge=forge, needs=needs, questions=questions, least_known=least_known, reads_own=reads_own)


def nested(option: str, other: Nested) -> tuple[str, Callable[..., Attack]]:
    """The attack that is an option of another one.

    Args:
        option: Name of the option, for messages.
        other: Its value: a name, `"file.py:name"`, a function, or a mapping of `name` and options.

    Returns:
        The name of the attack, for messages, and the function that builds it from n, f and options, which stand
        over those of the mapping.

    Raises:
        OptionError: For a mapping without a name.
        PartError: For an unknown attack.
    """
    return members.nested("attack", option, other, Attack)


def num_rows(view: View) -> Array:
    """The number of rows of an update, a scalar, without those that only fill it up."""
    return (view.workers >= 0).sum()


def rank(byzantine: Array) -> Array:
    """Number of Byzantine rows before each one, `[n]`; meaningless (but not negative) at honest rows."""
    return jnp.maximum(jnp.cumsum(byzantine) - 1, 0)


def honest_mean(view: View, values: Array | None = None) -> Array:
    """The mean of the known honest rows.

    Args:
        view: The update.
        values: `[n, d]`, averaged in place of the rows.

    Returns:
        The mean `[d]`, in float32 or wider; zeros where no honest row is known.
    """
    values = view.rows if values is None else values
    wide = jnp.promote_types(values.dtype, jnp.float32)
    # a mask, not a product with 0: what Byzantine workers computed may be NaN or infinite
    kept = jnp.where(view.known[:, None], values.astype(wide), 0)
    weights = view.known / jnp.maximum(view.known.sum(), 1).astype(wide)
    # XLA on CPU takes several times as long for a sum over the leading axis
    return jnp.matmul(weights, kept, precision=jax.lax.Precision.HIGHEST)


def honest_deviation(view: View, ddof: int = 0) -> Array:
    """The standard deviation of the known honest rows at each coordinate.

    Args:
        view: The update.
        ddof: Subtracted from the number of rows where the squared differences are divided by it.

    Returns:
        The deviations `[d]`, 0 where the rows are no more than `ddof`.
    """
    mean = honest_mean(view)
    variance = honest_mean(view, jnp.square(view.rows.astype(mean.dtype) - mean))
    if ddof:
        count = view.known.sum()
        variance *= jnp.where(count > ddof, count / jnp.maximum(count - ddof, 1), 0).astype(mean.dtype)
    return jnp.sqrt(variance)
