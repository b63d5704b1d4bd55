"""Random scenarios: every choice and option is read from byzax's JSON schema, so that a new one is drawn at once."""

import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from byzax.simulator.config.schema import json_schema
from byzax.simulator.config.study import Study
from tests.fuzz.files import ABSENT, TOO_LARGE

Node = dict[str, Any]
Files = dict[str, list[dict[str, Any]]]
# what is set by hand, for a run of a second or two
GIVEN = {"name", "seed", "steps", "workers", "executor", "evaluate_every", "repeats", "grid", "clock"}
# drawn always, for what is the default would take long or hide the rest
ALWAYS = {"data", "model", "rule", "attack"}
# how often a part or option is drawn that need not be there
INCLUDED, OFTEN = 0.3, {"schedule": 0.6, "latency": 0.6, "optimizer": 0.5, "pre": 0.4}
# sizes that keep a run short, by the option's name
SIZES: dict[str, list[Any]] = {
    "hidden": [4, 6], "width": [8], "heads": [1, 2], "embedding": [3], "layers": [1, 2], "groups": [1, 2],
    "samples": [120, 200], "shape": [[5], [6, 4]], "classes": [2, 3], "features": [4, 6], "devices": [12],
    "steps": [1, 3], "epochs": [1, 2], "batch_size": [1, 8, 20], "evaluations": [4, 8], "history": [5], "size": [2],
    "vocabulary": [None, 8], "effort": [300_000], "coordinates": [3, 50], "max_iterations": [100],
}  # fmt: skip
LISTED: dict[str, dict[str, list[Any]]] = {
    "mlp": {"hidden": [[], [5], [4, 3]]},
    # pairs at random leave nodes without a way to each other: these join seven
    "gossip": {
        "graph": [
            "ring",
            "complete",
            "torus",
            "tree",
            "erdos_renyi",
            {"name": "edges", "pairs": [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [1, 5]]},
        ],
    },
}
# options that name another member of a kind
NAMED = {"strength": None, "against": "rule"}
# compiled for many seconds: by night, and seldom
SLOW = {"cnn", "lenet", "transformer", "lstm", "gru", "rnn"}
# by day: what compiles within a second, and shares what is compiled of data and model
CHEAP = {
    "data": {"gaussian_mixture"}, "model": {"softmax"}, "pre": {"clip", "bucketing"},
    "rule": {"average", "median", "trimmed_mean", "krum", "multi_krum", "cge", "norm_clipping", "centered_clipping"},
    "attack": {"none", "sign_flip", "little", "empire", "label_flip", "zero", "gaussian", "silent", "mimic"},
}  # fmt: skip
CHEAP_DATA = {"name": "gaussian_mixture", "samples": 120, "shape": [4], "classes": 3, "batch_size": 8}


class Drawing:
    """The choices for a seed's scenario: the `files` that data are read from, and whether it is to be cheap."""

    def __init__(self, seed: int, files: Files, cheap: bool = False):
        self.rng, self.files, self.cheap = random.Random(seed), files, cheap

    def scenario(self) -> dict[str, Any]:
        """A scenario that may be impossible: what stands beside what is left to chance."""
        rng, n = self.rng, 7 if self.cheap else self.rng.randint(5, 12)
        made: dict[str, Any] = {
            "name": "fuzz", "seed": rng.randrange(100), "steps": rng.randint(3, 5), "evaluate_every": 1,
            "repeats": 1 if self.cheap else rng.choice([1, 1, 1, 2]), "workers": self.workers(n),
        }  # fmt: skip
        for key in _schema()["properties"]:
            if key not in GIVEN and (key in ALWAYS or rng.random() < OFTEN.get(key, INCLUDED)):
                made[key] = self.part(key)
        return made

    def workers(self, n: int) -> dict[str, Any]:
        """The number of workers, and the Byzantine ones among them."""
        rng = self.rng
        count = rng.choice([0, 1, 1, 1, *(3 * [max(1, (n - 3) // 4)]), (n - 1) // 2])
        made: dict[str, Any] = {"total": n, "byzantine": count}
        if rng.random() < INCLUDED:
            made["byzantine"] = self.value(_schema()["$defs"]["Byzantine"], ("workers", "byzantine")) | {"count": count}
        if rng.random() < 0.15:
            made["declared"] = rng.randint(0, max(1, n // 3))
        return made

    def part(self, key: str) -> Any:
        """One of the parts of a scenario."""
        if self.cheap and key in ("data", "model"):
            partitions = ["iid", {"name": "dirichlet", "alpha": 0.5}]
            return "softmax" if key == "model" else CHEAP_DATA | {"partition": self.rng.choice(partitions)}
        return self.value(_schema()["properties"][key], (key,))

    def value(self, node: Node, path: tuple[str, ...]) -> Any:
        """A value that a node of the schema allows; `path`: the keys that lead to it, and names of choices."""
        rng, option = self.rng, path[-1]
        if "$ref" in node:
            return self.value(_resolved(node["$ref"]), path)
        if "const" in node:
            return node["const"]
        if "enum" in node:
            return rng.choice(node["enum"])
        if option in LISTED.get(path[-2] if len(path) > 1 else "", {}):
            return rng.choice(LISTED[path[-2]][option])
        if option in SIZES and "properties" not in node and len(path) > 1:
            return rng.choice(SIZES[option])
        if "anyOf" in node:
            members, others = _members(node), _others(node)
            place = rng.randrange(len(others) + bool(members))
            return (
                self.choice(members, path) if place == len(others) else self.value(others[place] | _default(node), path)
            )
        if node.get("type") == "object":
            return self.mapping(node, path)
        if node.get("type") == "array":
            return [self.value(node["items"], path) for _ in range(rng.randint(node.get("minItems", 0), 2))]
        return self.plain(node, option)

    def choice(self, members: dict[str, Node], path: tuple[str, ...]) -> Any:
        """One of the members of a kind by its name, with some of its options."""
        names = sorted(members.keys() - ABSENT - TOO_LARGE - _plugins())
        if self.cheap:
            names = [name for name in names if name in CHEAP.get(path[-1], {name})]
        elif any(name in SLOW for name in names):
            names = [name for name in names if name not in SLOW or self.rng.random() < 0.15] or names
        name = self.rng.choice(names)
        made = self.mapping(members[name], (*path, name))
        if name in self.files:
            made |= self.rng.choice(self.files[name])
        return {"name": name, **made} if made else name

    def mapping(self, node: Node, path: tuple[str, ...]) -> dict[str, Any]:
        """Some of the keys of a mapping: all that must be there, and a share of the others."""
        made = {}
        for key, inner in node.get("properties", {}).items():
            needed = key in node.get("required", ()) and not (path[-1] in self.files and inner.get("type") == "string")
            if key == "name" or not (needed or self.rng.random() < INCLUDED):
                continue
            value = self.value(inner, (*path, key))
            if value is not None or "default" not in inner:
                made[key] = value
        return made

    def plain(self, node: Node, option: str) -> Any:
        """A number, a truth value, nothing, or a word."""
        rng, kind, usual = self.rng, node.get("type"), node.get("default")
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "null":
            return None
        if kind == "string":
            kin = NAMED.get(option)
            return usual if kin is None else rng.choice([usual, *sorted(_names(kin))])
        if kind == "integer":
            near = [] if not isinstance(usual, int) else [usual, usual + 1, usual - 1]
            allowed = [n for n in (*near, 0, 1, 2, 3, 5) if n <= 12 and _within(node, n)]
            return rng.choice(allowed) if allowed else usual
        assert kind == "number", f"{option}: nothing is known of {node}"
        near = [0.1, 0.5, 1.0] if not isinstance(usual, (int, float)) or not usual else [usual, usual / 2, 2 * usual]
        allowed = [x for x in (*near, *near, 0.0, 0.9, 1.0, 2.5) if _within(node, x)]
        return float(rng.choice(allowed))


def _members(node: Node) -> dict[str, Node]:
    """The mappings of a union that are told apart by their name, by that name; without those of a union inside."""
    mappings = [_resolved(each["$ref"]) if "$ref" in each else each for each in node["anyOf"]]
    named = [each for each in mappings if "const" in each.get("properties", {}).get("name", {})]
    return {each["properties"]["name"]["const"]: each for each in named}


def _others(node: Node) -> list[Node]:
    """The other members of a union: where there are such mappings, bare names and files of one's own are left out."""
    members = _members(node)
    found = []
    for each in node["anyOf"]:
        whole = _resolved(each["$ref"]) if "$ref" in each else each
        own = whole.get("pattern", "").startswith("\\.py:")
        if "const" not in whole.get("properties", {}).get("name", {}) and not own and not (members and "enum" in whole):
            found.append(each)
    return found


def _default(node: Node) -> Node:
    return {"default": node["default"]} if "default" in node else {}


def _within(node: Node, value: float) -> bool:
    tests: dict[str, Callable[[float, float], bool]] = {
        "minimum": lambda a, b: a >= b, "maximum": lambda a, b: a <= b,
        "exclusiveMinimum": lambda a, b: a > b, "exclusiveMaximum": lambda a, b: a < b,
    }  # fmt: skip
    return all(test(value, node[key]) for key, test in tests.items() if key in node)


@cache
def _schema() -> Node:
    return json_schema(Study)


def _resolved(reference: str) -> Node:
    return _schema()["$defs"][reference.removeprefix("#/$defs/")]


def _names(key: str) -> set[str]:
    """All that can be chosen by name for a part of a scenario."""
    return _members(_schema()["properties"][key]).keys() - _plugins()


@cache
def _plugins() -> frozenset[str]:
    """Members that are none of byzax's own: the tests have some that fail on purpose."""
    folders = filter(None, os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep))
    return frozenset(file.stem for folder in folders for file in Path(folder).rglob("*.py"))
