"""Declarations and docstrings of every attack are true."""

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import MASKS, D, F, N, example, view_of
from option_values import values
from test_attacks import SHIPPED

from byzax import attacks
from byzax.aggregators import Info
from byzax.attacks import Batch
from byzax.options import OptionError, PartError, options_of
from tests.nightly import by_night

OPTIONS = [(name, option) for name in SHIPPED for option in options_of(attacks.factory(name))]

# every attack as it is, and those whose declarations depend on options
VARIANTS = [
    *((name, {}) for name in SHIPPED),
    ("backdoor", {"boost": 2.0}),
    ("claims", {"attack": "fang"}),
    ("claims", {"attack": "label_flip"}),
    ("empire", {"epsilon": "search"}),
    ("fang", {"against": "trimmed_mean"}),
    ("gradient_ascent", {"measure": "loss"}),
    ("gradient_ascent", {"start": "neurotoxin"}),
    ("gradient_ascent", {"start": "rop", "measure": "cosine"}),
    ("little", {"z": "search"}),
    ("little", {"z": 1.0}),
    ("optimised", {"measure": "cosine"}),
    ("optimised", {"measure": "loss"}),
    ("optimised", {"attack": "rop"}),
    ("stale_replay", {"what": "own", "age": 2}),
]


def identity(part):
    return "-".join(f"{key}={value}" for key, value in part.items()) if isinstance(part, dict) else None


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda part: getattr(part, "name", part))
def test_an_option_out_of_its_range_is_refused_by_name_and_the_bounds_are_taken(name, option):
    refused, taken = values(option.annotation)
    for value in refused:
        with pytest.raises(OptionError, match=f"^{name}: {option.name} must be ") as caught:
            attacks.build(name, N, F, **{option.name: value})
        assert (caught.value.part, caught.value.option) == (name, option.name)
    for value in taken:
        # the default target of edge_case is 0, and must be another
        others = {"target": 1} if (name, option.name) == ("edge_case", "source") else {}
        attacks.build(name, N, F, **{option.name: value, **others})


# what the papers' formulas allow, written down by itself: the types say the same
OUTSIDE = [
    ("backdoor", "share", 0.0),
    ("backdoor", "share", 1.5),
    ("backdoor", "boost", 0.0),
    ("backdoor", "target", -1),
    ("backdoor", "size", 0),
    ("fang", "b", 0.5),
    ("fang", "epsilon", -1.0),
    ("gaussian", "standard_deviation", -1.0),
    ("gradient_ascent", "steps", 0),
    ("hidden_vulnerability", "coordinate", -1),
    ("little", "ddof", 2),
    ("little", "evaluations", 3),
    ("mimic", "warm_up", 0),
    ("neurotoxin", "top", 1.0),
    ("rop", "angle", 270.0),
    ("rop", "location", 1.5),
    ("spectral", "margin", 0.0),
    ("stale_replay", "age", 0),
]


@pytest.mark.parametrize(("name", "option", "value"), OUTSIDE)
def test_what_a_formula_does_not_allow_is_refused(name, option, value):
    with pytest.raises(OptionError, match=f"^{name}: {option} must be .*, got {value}$"):
        attacks.build(name, N, F, **{option: value})


def test_every_option_has_a_range_but_the_names_of_attacks_and_options():
    words = {(name, option.name) for name, option in OPTIONS if values(option.annotation)[0] == [0.5]}
    assert words == {
        ("claims", "attack"),
        ("gradient_ascent", "start"),
        ("optimised", "attack"),
        ("optimised", "strength"),
    }


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=identity)
def test_an_attack_calls_the_functions_of_the_view_that_it_declares_and_no_others(name, options):
    attack, called = attacks.build(name, N, F, **options), set()
    rows, byzantine = example(MASKS["scattered"])
    view = view_of(rows, byzantine)

    def noting(field):
        function = getattr(view, field)

        def call(*args):
            called.add(field)
            return function(*args)

        return call

    noted = view._replace(**{field: noting(field) for field in ("ask_rule", "loss", "after")})
    if attack.forge is not None:
        jax.eval_shape(lambda: attack.forge(jax.random.key(0), noted, attack.init(D))[0])
    assert attack.needs == called
    assert (attack.questions > 0) == ("ask_rule" in attack.needs)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=identity)
def test_an_attack_forges_different_rows_for_two_receivers_where_it_declares_it_and_nowhere_else(name, options):
    attack = attacks.build(name, N, F, **options)
    if attack.forge is None:
        assert not attack.by_receiver
        return
    rows, byzantine = example(MASKS["scattered"])
    view = view_of(rows, byzantine)
    one, other = (
        attack.forge(
            jax.random.key(0),
            view._replace(receiver=jnp.int32(receiver), own=jnp.arange(N) == receiver),
            attack.init(D),
        )[0]
        for receiver in range(2)
    )
    assert attack.by_receiver != np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=identity)
def test_data_without_labels_is_refused_by_the_attacks_that_read_them_and_by_no_others(name, options):
    attack = attacks.build(name, N, F, **options)
    batch = Batch(jnp.zeros((4, 6, 6)), jnp.zeros(4), None)
    if attack.reads_labels:
        with pytest.raises(PartError, match="changes labels, and this data has values"):
            attack.corrupt(jax.random.key(0), batch)
    elif attack.corrupt is not None:
        np.testing.assert_array_equal(attack.corrupt(jax.random.key(0), batch).y, batch.y)


KNOWING = [
    *VARIANTS,
    ("equivocate", {"perturbation": "unit"}),
    ("equivocate", {"perturbation": "sign"}),
    ("hidden_vulnerability", {"coordinate": "all"}),
    ("hidden_vulnerability", {"coordinate": 2}),
    ("hidden_vulnerability", {"coordinate": "deviation"}),
    ("mimic", {"target": 5}),
    ("min_max", {"perturbation": "unit"}),
    ("min_sum", {"perturbation": "sign"}),
    ("optimised", {"attack": "empire"}),
]
# by day the attacks as they are, but for the one that takes long; at night their options too
KNOWING = [case if not case[1] and case[0] != "gradient_ascent" else by_night(*case) for case in KNOWING]


@pytest.mark.parametrize(("name", "options"), KNOWING, ids=identity)
def test_an_attack_that_has_to_know_two_rows_sends_the_one_that_it_knows(name, options):
    attack = attacks.build(name, N, F, **options)
    if attack.forge is None or attack.corrupt is not None or attack.claim is not None or name in ("none", "silent"):
        return
    byzantine, state, alike = jnp.arange(N) < 1, attack.init(8), True
    for update in range(3):
        # what is hidden is not there: the known row stands in its place
        rows = jnp.broadcast_to(jax.random.normal(jax.random.key(update), (8,)), (N, 8))
        view = attacks.view_of(
            rows,
            byzantine,
            apply=lambda tried: (tried.mean(axis=0), None, Info()),
            loss=lambda params: jnp.square(params).sum(),
            step=update,
        )._replace(known=byzantine, after=lambda aggregate: -aggregate)
        sent, state = attack.forge(jax.random.key(update), view, state)
        alike &= bool(jnp.allclose(sent[0], rows[0], rtol=1e-5, atol=1e-6))
    assert alike == (attack.least_known == 2)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_docstring_says_what_the_attack_is_takes_and_gives(name):
    function = attacks.factory(name)
    text = inspect.getdoc(function)
    lines = text.splitlines()
    assert lines[0].endswith(".")
    # what the tables of `byzax list` are made of
    for field in ("Formula", "Knows"):
        assert sum(line.startswith(f"{field}: ") for line in lines) == 1, field
    knows = next(line.removeprefix("Knows: ") for line in lines if line.startswith("Knows: "))
    assert knows in ("nothing", "own row", "all honest rows", "all honest rows, the rule")
    for section in ("Args", "Returns", "Raises", "References"):
        assert lines.count(f"{section}:") == 1, section
        assert lines[lines.index(f"{section}:") + 1].startswith("    ")
    for argument in inspect.signature(function).parameters:
        assert sum(line.startswith(f"    {argument}: ") for line in lines) == 1, argument
    summary = sys.modules[function.__module__].__doc__.splitlines()
    assert len(summary) == 1
    assert summary[0].endswith(".")


def test_what_is_named_tells_how_the_rule_is_used():
    """`Knows` is for a reader, `needs` for the program: they agree for the default options."""
    for name in SHIPPED:
        asks = "Knows: all honest rows, the rule" in inspect.getdoc(attacks.factory(name))
        assert asks == ("ask_rule" in attacks.build(name, N, F).needs), name


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=identity)
def test_what_byzantine_workers_computed_changes_what_they_send_where_the_attack_declares_it_and_nowhere_else(
    name, options
):
    attack = attacks.build(name, N, F, **options)
    if attack.forge is None:
        return

    def forged(byzantine, known, place):
        """The Byzantine rows of three updates."""
        state, sent = attack.init(D), []
        for step in range(3):
            rows, _ = example(byzantine, seed=step)
            if place is not None:
                rows = jnp.where(byzantine[:, None], place, rows)
            view = view_of(rows, byzantine)._replace(known=known, step=jnp.asarray(step))
            made, state = attack.forge(jax.random.key(step), view, state)
            sent.append(np.asarray(made)[byzantine])
        return np.array(sent)

    reads = False
    for mask in MASKS.values():
        byzantine = np.asarray(example(mask)[1])
        # all honest rows, one of them, none of them, and all rows as attackers without knowledge of others have them
        one = ~byzantine & (np.cumsum(~byzantine) == 1)
        for known in (~byzantine, one, np.zeros_like(byzantine)):
            for place in (np.nan, 1e9):
                reads |= not np.array_equal(
                    forged(byzantine, known, None), forged(byzantine, known, place), equal_nan=True
                )
    assert attack.reads_own == reads
