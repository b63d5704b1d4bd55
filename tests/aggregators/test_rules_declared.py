"""Declarations of rules, pre-aggregations and filters: numbers of rows, needs, ranges of options, docstrings."""

import doctest
import importlib
import inspect
import math
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

import annotated_types
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic.fields import FieldInfo
from rules_table import CORE, MEMBERS, each, normal

from byzax import aggregators
from byzax.aggregators import Context, filters, mixing, pre
from byzax.aggregators.filters import Sent
from byzax.options import OptionError, PartError, options_of

N, F, D = 19, 4, 6
KINDS = {"rule": aggregators, "pre": pre, "filter": filters, "mixing": mixing}


def ours(package):
    functions = {name: package.factory(name) for name in package.available()}
    return {name: each for name, each in functions.items() if "plugins" not in Path(inspect.getfile(each)).parts}


PARTS = [(kind, name) for kind, package in KINDS.items() for name in ours(package)]
OPTIONS = [(*part, each.name) for part in PARTS for each in options_of(KINDS[part[0]].factory(part[1]))]


# --- numbers of rows --------------------------------------------------------------------------------------------------

LIMITED = [
    *(("multi_krum", {"m": m}) for m in (1, 5, 10)),
    ("multi_krum", {"m": 4, "unproven": True}),
    ("krum", {"unproven": True}),
    ("bulyan", {"unproven": True}),
    ("bulyan", {"unproven": True, "theta": "n-2f-2"}),
    ("bulyan", {"base": {"name": "multi_krum", "m": 12}}),
    # without an `among` the base is built for every pool, down to 2f + 1 rows
    ("bulyan", {"base": "smea"}),
    ("bulyan", {"base": {"name": "monna", "pivot": 4}}),
    ("bulyan", {"base": {"name": "monna", "pivot": 4}, "theta": "n-2f-2"}),
    ("trimmed_mean", {"trim": 2}),
    ("median_of_means", {"groups": 5}),
    ("monna", {"pivot": 5}),
    ("monna", {"pivot": -8}),
    ("dnc", {"c": 2.5}),
    ("krum", {"pre": ["nnm", {"name": "bucketing", "s": 2}]}),
    ("median", {"pre": [{"name": "bucketing", "s": 3}]}),
    ("trimmed_mean", {"trim": 1, "pre": ["arc", {"name": "bucketing", "s": 2}]}),
]
ROW_CASES = [(m.name, m.options) for m in MEMBERS] + LIMITED


def accepts(build, n, f):
    """The rule built for n rows, or None where these are refused, which has to be a PartError."""
    try:
        return build(n, f)
    except PartError:
        return None


def averages_all(options, n):
    """Tells whether Multi-Krum averages all n rows, which it accepts beside the numbers from `least_rows` on."""
    base = options.get("base", {})
    return n == options.get("m", base.get("m") if isinstance(base, dict) else None)


@pytest.mark.parametrize(("name", "options"), ROW_CASES, ids=str)
def test_a_rule_accepts_the_least_rows_it_declares_and_all_larger_numbers_and_no_smaller(name, options):
    build = partial(aggregators.build, name, **options)
    declared = [rule.least_rows for rule in (accepts(build, 44, f) for f in range(6)) if rule]
    for f in range(4):
        # whatever f the rule was built for
        (least,) = {least_rows(f) for least_rows in declared}
        for n in range(1, min(least, 20) + 7):
            rule = accepts(build, n, f)
            assert (rule is not None) == (n >= least) or (averages_all(options, n) and n < least), (n, f)
            assert rule is None or rule.least_rows(f) == least


def test_multi_krum_refuses_the_numbers_between_m_and_m_plus_f():
    build = partial(aggregators.build, "multi_krum", m=10)
    assert [n for n in range(1, 20) if accepts(build, n, 0)] == [*range(10, 20)]
    assert [n for n in range(1, 20) if accepts(build, n, 1)] == [*range(10, 20)]
    assert [n for n in range(1, 20) if accepts(build, n, 3)] == [10, *range(13, 20)]
    assert build(15, 2).least_rows(3) == 13


def test_the_limit_of_smea_on_subsets_is_no_condition_of_its_least_rows():
    assert aggregators.build("smea", 25, 5).least_rows(10) == 21
    with pytest.raises(PartError, match="subsets"):
        aggregators.build("smea", 50, 10)


MIXERS = [
    *((name, {}) for name in ours(pre)),
    ("bucketing", {"s": 1}),
    ("bucketing", {"s": 5}),
]


@pytest.mark.parametrize(("name", "options"), MIXERS, ids=str)
@pytest.mark.parametrize("f", range(4))
@pytest.mark.parametrize("kept", range(1, 6))
def test_a_pre_aggregation_leaves_enough_rows_of_the_least_it_declares_and_of_all_larger_numbers(
    name, options, f, kept
):
    build = partial(pre.factory(name), **options)
    least = build(N, f).least_rows(kept, f)
    for n in range(1, least + 7):
        mixer = accepts(build, n, f)
        assert (mixer is not None and mixer.kept >= kept) == (n >= least), n


@pytest.mark.parametrize(("name", "options"), MIXERS, ids=str)
def test_a_pre_aggregation_is_declared_linear_where_its_rows_are_the_shares_times_the_rows(name, options):
    mixer = pre.factory(name)(N, F, **options)
    rows = normal(1, N, D)[0]
    rows[3] *= 1000
    mixed, shares = mixer.mix(jnp.asarray(rows), Context(jax.random.key(0)))
    assert mixer.linear == np.allclose(np.asarray(shares, np.float64) @ rows, mixed, rtol=1e-3, atol=1e-2)


def test_a_rule_over_pre_aggregations_declares_what_all_of_them_do():
    build = partial(aggregators.build, n=N, f=2)
    assert build("krum", pre=["nnm", "bucketing"]).linear
    assert not build("krum", pre=["nnm", "clip"]).linear
    assert not build("median", pre=["nnm"]).linear
    assert build("fltrust", pre=["nnm"]).needs == {"gradient"}
    assert build("brute", pre=["nnm"]).limited


# --- what is asked of the context -------------------------------------------------------------------------------------


def recording(asked):
    """A context that notes which of its functions are called."""

    def note(name, result):
        asked.add(name)
        return result

    params = jnp.zeros(D)
    return Context(
        jax.random.key(0),
        params,
        gradient=lambda: note("gradient", params + 1),
        loss=lambda model: note("loss", jnp.sum(model)),
        after=lambda row: note("after", params - row),
    )


@each([*MEMBERS, *(m._replace(options={"learning_rate": 0.1}) for m in MEMBERS if m.name == "zeno")])
def test_a_rule_calls_the_functions_of_the_context_that_it_declares(member):
    rule, asked = aggregators.build(member.name, N, F, **member.options), set()
    jax.eval_shape(lambda rows: rule.apply(rows, rule.init(D), recording(asked))[0], jnp.zeros((N, D)))
    assert asked == rule.needs


@pytest.mark.parametrize("name", ours(filters))
def test_a_filter_calls_the_functions_of_the_context_that_it_declares(name):
    judge, asked = filters.factory(name)(N, F), set()
    row, number = jnp.zeros(D), jnp.asarray(0)
    jax.eval_shape(lambda row: judge.judge(row, Sent(number, number), recording(asked), judge.init(row))[0], row)
    assert asked == judge.needs


# --- options ----------------------------------------------------------------------------------------------------------


def probes(annotation, number=float):
    """Values just out of the range of a type, and values at its ends that are just within."""
    origin, (first, *others) = get_origin(annotation), get_args(annotation) or (annotation,)
    if origin is Annotated:
        wrong, right = probes(first)
        bounds = [each for info in others if isinstance(info, FieldInfo) for each in info.metadata]
        step = partial(math.nextafter) if first is float else lambda value, to: value + (1 if to > value else -1)
        for bound in bounds:
            match bound:
                case annotated_types.Ge(ge):
                    wrong, right = [*wrong, step(ge, -math.inf)], [*right, ge]
                case annotated_types.Gt(gt):
                    wrong, right = [*wrong, gt], [*right, step(gt, math.inf)]
                case annotated_types.Le(le):
                    wrong, right = [*wrong, step(le, math.inf)], [*right, le]
                case annotated_types.Lt(lt):
                    wrong, right = [*wrong, lt], [*right, step(lt, -math.inf)]
                case _:
                    assert bound.allow_inf_nan is False
                    wrong = [*wrong, math.nan, math.inf]
        return wrong, right
    if origin is Union or isinstance(annotation, type(int | str)):
        found = [probes(each) for each in get_args(annotation) if each is not type(None)]
        # a number is wrong for either of several kinds
        alone = len(found) == 1
        wrong = [value for values, _ in found for value in values if alone or value != "none of these"]
        return wrong if alone else [*wrong, -0.5], [value for _, values in found for value in values]
    if origin is Literal:
        return ["none of these"], [first, *others]
    if origin is tuple:
        wrong, _ = probes(first)
        return [(value,) for value in wrong], []
    return {int: ([1.5, "1", True], []), float: (["much"], []), bool: (["yes", 1], [True, False])}.get(
        annotation, ([], [])
    )


# options that have no effect without another one
TOGETHER = {("geometric_median", option): {"nu": 0.1} for option in ("iterations", "start")}


@pytest.mark.parametrize(("kind", "name", "option"), OPTIONS)
def test_an_option_out_of_its_range_is_refused_by_its_name_and_one_within_is_accepted(kind, name, option):
    function = KINDS[kind].factory(name)
    (annotation,) = [each.annotation for each in options_of(function) if each.name == option]
    wrong, right = probes(annotation)
    assert wrong
    for value in wrong:
        with pytest.raises(OptionError, match=rf"^{name}: {option} must ") as refused:
            function(N, F, **{option: value})
        assert refused.value.option == option
        assert f"got {value!r}" in str(refused.value)
    for value in right:
        function(N, 0, **{option: value}, **TOGETHER.get((name, option), {}))


# --- docstrings -------------------------------------------------------------------------------------------------------


def section(text, name):
    """The lines of a section of a docstring in Google style, without their indentation."""
    found = re.findall(rf"^{name}:\n((?:    .*\n|\n(?=    ))+)", text + "\n", re.MULTILINE)
    assert len(found) == 1, f"{name}: {len(found)} times"
    return re.sub("^    ", "", found[0], flags=re.MULTILINE)


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_docstring_has_every_argument_and_what_tables_are_made_of(kind, name):
    function = KINDS[kind].factory(name)
    text = inspect.getdoc(function)
    for field in ("Condition", "Cost"):
        assert len(re.findall(rf"^{field}: \S", text, re.MULTILINE)) == 1
    parameters = inspect.signature(function).parameters
    assert re.findall(r"^(\w+): [A-Z`]", section(text, "Args"), re.MULTILINE) == [*parameters]
    assert all(section(text, field).strip() for field in ("Returns", "Raises", "References"))
    n, f, *options = parameters.values()
    assert (n.name, f.name) == ("n", "f")
    for option in options:
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is not option.empty


FILES = sorted(Path(aggregators.__file__).parent.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(Path(aggregators.__file__).parent).with_suffix("").parts
    return importlib.import_module(".".join(["byzax.aggregators", *parts]).removesuffix(".__init__"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_everything_public_has_a_docstring(path):
    module = module_of(path)
    assert module.__doc__
    for member in vars(module).values():
        name = getattr(member, "__name__", "_")
        if getattr(member, "__module__", None) == module.__name__ and not name.startswith("_"):
            assert inspect.getdoc(member), member


@pytest.mark.parametrize(
    "path",
    [
        # each compiles a rule
        pytest.param(path, marks=[] if path.stem in CORE or path.parent.name == "pre" else pytest.mark.slow)
        for path in FILES
        if ">>>" in path.read_text()
    ],
    ids=lambda path: path.stem,
)
def test_the_examples_in_the_docstrings_are_true(path):
    tried = doctest.testmod(module_of(path))
    assert tried.failed == 0
    assert tried.attempted > 0
