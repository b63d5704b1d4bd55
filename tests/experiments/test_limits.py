"""Whatever a scenario file holds, it is understood or refused, soon and in few and short lines of our own words."""

import random
import re
import signal
import time

import pytest
from pydantic import BaseModel

from byzax.experiments.certify.description import Certificate
from byzax.experiments.strict_yaml import LARGEST, dump, parse_text
from byzax.experiments.study import load
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import LONGEST_VALUE, MOST_LINES, ScenarioError, quote
from byzax.simulator.validation import validate_quickly
from tests.experiments.command import SMALL, byzax, write
from tests.nightly import by_night

# what pydantic and Python say, and we do not
THEIRS = re.compile(
    r"(?i)input should|should be|valid (integer|number|string|tuple|list|dict|boolean)|after validation"
    r"|validation error|at least \d+ item|should (match|have)|pattern|Traceback|Errno|object at 0x"
)


def bombs():
    """YAML texts that are small, or no larger than they may be, and stand for a lot."""
    lines = ["a0: &a0 {k: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 9)]
    lists = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    chain = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 400)]
    return {
        "merges that multiply": "\n".join(lines),
        "aliases that multiply": "\n".join(lists),
        "aliases that nest": "\n".join(chain),
        "lists in lists": "a: " + "[" * 100_000,
        "mappings in mappings": "\n".join(f"{' ' * i}a:" for i in range(400)),
        "many values": "seed: [" + ", ".join(["1"] * 100_000) + "]",
        "many keys": "\n".join(f"key{i}: 1" for i in range(30_000)),
        "more than a megabyte": "name: " + "a" * LARGEST,
    }


@pytest.mark.parametrize("kind", bombs())
def test_a_file_that_stands_for_too_much_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "bomb.yaml"
    path.write_text(bombs()[kind])
    began = time.process_time()
    result = byzax("run", path, "--out", tmp_path / "out")
    # two seconds on a quiet machine, for 20,000 values; without a limit minutes
    assert time.process_time() - began < 20
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert len(result.stderr) < len(str(path)) + 200
    assert not (tmp_path / "out").exists()


def test_merges_and_aliases_that_repeat_little_are_read():
    assert parse_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n", "text") == {
        "a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}] * 2,
    }  # fmt: skip


@pytest.mark.parametrize("seeds", [500, by_night(2000)])
def test_of_many_mistakes_the_first_are_said_and_the_others_counted(tmp_path, seeds):
    result = byzax("run", write(tmp_path, **{f"key{i}": 1 for i in range(1500)}))
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines)) == (2, MOST_LINES + 1)
    assert lines[-1].endswith(f"and {1500 - MOST_LINES} more of these: mend the first ones")
    # each cell of a grid with a mistake of its own
    began = time.process_time()
    result = byzax("run", write(tmp_path, grid={"seed": [-each for each in range(1, seeds + 1)], "steps": [1, 2, 3]}))
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, MOST_LINES + 1)
    assert time.process_time() - began < 20


def test_the_runs_of_a_grid_are_counted_before_any_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("byzax.simulator.config.grid.put", lambda *_: pytest.fail("a combination was made"))
    grid = {"seed": list(range(50)), "steps": list(range(1, 51)), "evaluate_every": list(range(1, 51))}
    for changes, said in (
        ({"grid": grid}, "grid: 125000 combinations are too many: at most 100000 runs in all; take fewer values"),
        ({"grid": {"steps": [*range(1, 12)]}, "repeats": 10_000}, "grid: 11 combinations, 10000 repeats of each, are"),
    ):  # fmt: skip
        with pytest.raises(ScenarioError, match=said):
            load(write(tmp_path, **changes))


LONG = "z" * 300
LENGTHS = {
    "name": {"name": LONG},
    "a name with a break": {"name": "a\nb"},
    "a key": {LONG: 1},
    "a key with codes of a terminal": {"\x1b[31mred": 1},
    "a rule": {"rule": LONG},
    "a rule that is a list": {"rule": [LONG]},
    "an option": {"rule": {"name": "krum", "distance": LONG}},
    "a base": {"rule": {"name": "bulyan", "base": LONG}},
    "a key of a grid": {"grid": {LONG: [1]}},
    "a value of a grid": {"grid": {"rule.name": [LONG]}},
    "many values": {"steps": [1] * 1000},
    "a mapping": {"steps": {"a": {"b": [LONG]}}},
    "a key of something without keys": {"steps": LONG, "grid": {"steps.a": [1]}},
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_what_is_long_is_cut_in_a_message(tmp_path, kind):
    path = tmp_path / "small.yaml"
    with pytest.raises(ScenarioError) as caught:
        validate_quickly(load(path, raw={**SMALL, **LENGTHS[kind]}))
    (line,) = str(caught.value).splitlines()
    assert line.isprintable()
    assert "z" * (LONGEST_VALUE + 1) not in line
    assert len(line) < len(str(path)) + 500


def test_options_that_are_long_are_one_line(tmp_path):
    for arguments in (["--out", tmp_path / LONG / LONG], ["--set", f"{LONG}=1"], ["--set", LONG], ["--executor", LONG]):
        result = byzax("run", write(tmp_path), *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output


def places(description, above=()):
    """The key of every field of a description, at any depth, with a mapping around it that is right."""
    for name, field in description.model_fields.items():
        yield (*above, name)
        for inner in parts(field.annotation):
            yield from places(inner, (*above, name))


def parts(annotation):
    found = [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
    return found + [each for part in getattr(annotation, "__args__", ()) for each in parts(part)]


def around(key, value):
    """A mapping with a value at a key; parts with a name have one that has such an option, as far as it is known."""
    for name in reversed(key):
        value = {name: value}
    return value


WRONG = [
    None, "wrong", 1.5, -1, -1.5, True, 10**30, 10**400, [], {}, [None], ["x", 1], {"name": 3}, {"x": 1}, [[]], [{}],
    "", float("inf"), float("nan"),
]  # fmt: skip


def refusal(function, *given):
    """The message where something is refused, else nothing."""
    try:
        function(*given)
    except ScenarioError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("description", "values"),
    [(Study, WRONG[::2]), by_night(Study, WRONG[1::2]), (Certificate, WRONG)],
    ids=["study", "study at night", "certificate"],
)
def test_no_field_says_what_is_wrong_in_words_of_pydantic(description, values):
    start = SMALL if description is Study else {"rule": "median"}
    said = 0
    # of the same field in many parts one is enough
    keys = {(key[0], *key[-1:]): key for key in places(description)}
    for key in keys.values():
        for value in values:
            words = refusal(parse_as, description, {**start, **around(key, value)})
            said += bool(words)
            assert not (found := THEIRS.search(words)), f"{key}: {value!r}: {words} ({found})"
            assert "cannot be used here" not in words, (key, value, words)
    assert said > len(keys)


def test_what_kinds_of_mistakes_our_fields_can_give_have_words_of_ours():
    for changes, words in (
        ({"steps": 1.5}, "steps: must be a whole number, got 1.5"),
        ({"steps": 0}, "steps: must be at least 1, got 0"),
        ({"local": {"steps": 1, "proximal": float("inf")}}, "local.proximal: must be a finite number, got inf"),
        ({"data": {"name": "digits", "test": 0}}, "data.test: must be greater than 0, got 0"),
        ({"worker_momentum": 1.0}, "worker_momentum.beta: must be less than 1, got 1.0"),
        ({"repeats": 10**5}, "repeats: must be at most 10000, got 100000"),
        ({"optimizer": {"name": "sgd", "nesterov": 1}}, "optimizer.nesterov: must be true or false, got 1"),
        ({"name": 3}, "name: must be text, got 3"),
        ({"name": "a/b"}, "name: must be letters, digits, spaces and . _ -, a letter or digit first, got 'a/b'"),
        ({"clock": "sun"}, "clock: must be 'virtual' or 'wall', got 'sun'"),
        ({"pre": "nnm"}, "pre: must be a list, got 'nnm': write [nnm]"),
        ({"grid": {"steps": []}}, "grid.steps: must have at least one value, got []"),
        ({"grid": {"steps": 3}}, "grid.steps: must be a list, got 3"),
        ({"grid": [1]}, "grid: must be a mapping, got [1]"),
        ({"rule": 3}, "rule: a name, a function, or a mapping with name and options, is needed, got 3"),
        ({"rule": {}}, "rule.name: is missing"),
        ({"worker_momentum": "a"}, "worker_momentum: a number, or a mapping of beta, kind, is needed, got 'a'"),
    ):  # fmt: skip
        with pytest.raises(ScenarioError) as caught:
            parse_as(Study, {**SMALL, **changes})
        assert str(caught.value) == words


TOKENS = [
    "&a ", "*a", "<<: *a", "- ", ": ", "{", "}", "[", "]", "'", '"', "|", ">", "#", "!", "%", "@", "`", "\t", "  ",
    "\n", "~", "null", "true", "1e999", ".nan", ".inf", "-1", "---", "1_000", "1" * 200, "\x00", "\x85", "\ufeff",
    "é", "name", "rule: ", "grid: {rule.name: [krum, median]}", "repeats: 3", "a" * 500,
]  # fmt: skip


def mutated(rng, text):
    """A text with up to four changes: parts taken out, doubled, exchanged, or put in."""
    for _ in range(rng.randrange(1, 5)):
        begin = rng.randrange(len(text) + 1)
        end = min(len(text), begin + rng.randrange(1, 12))
        lines = text.split("\n")
        match rng.randrange(5):
            case 0:
                text = text[:begin] + text[end:]
            case 1:
                text = text[:begin] + rng.choice(TOKENS) + text[begin:]
            case 2:
                text = text[:begin] + rng.choice(TOKENS) + text[end:]
            case 3:
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = "\n".join(lines)
            case _:
                i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[i], lines[j] = lines[j], lines[i]
                text = "\n".join(lines)
    return text


def looked_at(path):
    study = load(path)
    if len(study.cells) < 20 and all(cell.study.workers.total < 1000 for cell in study.cells):
        validate_quickly(study)


FUZZED = {
    **SMALL,
    "pre": ["nnm", {"name": "clip", "bound": 2.0}],
    "local": {"steps": 2, "learning_rate": 0.1},
    "attack": {"name": "little", "timing": {"name": "late", "age": 3}},
    "latency": {"name": "lognormal", "sigma": 0.5, "factors": [1, 1, 1, 2, 2, 2, 3]},
    "grid": {"rule.name": ["average", "krum"], "data.partition": ["iid", {"name": "dirichlet", "alpha": 0.3}]},
}


@pytest.mark.parametrize(
    "seeds", [range(60), pytest.param(range(60, 700), marks=pytest.mark.slow)], ids=["day", "night"]
)
def test_a_scenario_that_is_changed_at_random_is_understood_or_refused_in_short_lines(tmp_path, seeds):
    def hangs(*_):
        raise TimeoutError

    refused, before = 0, signal.signal(signal.SIGALRM, hangs)
    try:
        for seed in seeds:
            path = tmp_path / "fuzzed.yaml"
            path.write_bytes(mutated(random.Random(seed), dump(FUZZED)).encode("utf-8", "surrogatepass"))
            signal.alarm(60)
            words = refusal(looked_at, path)
            signal.alarm(0)
            refused += bool(words)
            assert len(words.splitlines()) <= MOST_LINES + 1, seed
            for line in words.splitlines():
                assert line.startswith(str(path)), (seed, line)
                assert line.isprintable(), (seed, line)
                assert len(line) < len(str(path)) + 700, (seed, line)
                assert not THEIRS.search(line), (seed, line)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert refused > len(seeds) / 3


def test_a_value_is_shown_on_one_short_line():
    for value in ("a\nb", "\x1b[31m", {"a": [1] * 1000}, 10**100, "z" * 10**6, "é", b"\xff" * 100):
        line = quote(value)
        assert line.isprintable()
        assert len(line) <= LONGEST_VALUE
