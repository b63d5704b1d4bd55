"""The description of a certificate: strict, frozen, and made of the same parts as a scenario."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, Strict, model_validator

from byzax import members
from byzax.experiments.strict_yaml import read_mapping
from byzax.experiments.study import override
from byzax.simulator.config.base import SEEDS, Count, Description, Name, parse_as
from byzax.simulator.config.data import DataField, ModelField
from byzax.simulator.config.part import Choice, Part
from byzax.simulator.config.run import PreField, RuleField
from byzax.simulator.mistakes import ScenarioError, prefix_errors

# without a timing: nothing is sent here
Attack: TypeAlias = Annotated[Part, Choice("attack")]

Measurement = Literal["resilience", "robustness", "breakdown", "leak"]
PARTS: tuple[Measurement, ...] = ("resilience", "robustness", "breakdown", "leak")


class Gradients(Description, frozen=True):
    """The true gradient, its dimension and the noise, measured on a model at its initial point."""

    model: ModelField = Field(default="mlp", validate_default=True)
    data: DataField = Field(default="digits", validate_default=True, description="Data and batch size of one row.")
    batches: Annotated[int, Field(ge=2)] = Field(default=200, description="Rows that the noise is measured on.")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, (str, dict, int)) else value


def _all_or_listed(value: Any) -> Any:
    return () if value == "all" else _listed(value)


ONE_OR_MORE = BeforeValidator(_listed)
# float32 keeps nothing of noise that is smaller beside the gradient
SMALLEST_NOISE = 1e-6


class Certificate(
    Description, frozen=True, json_schema_extra={"oneOf": [{"required": ["rule"]}, {"required": ["rules"]}]}
):
    """One or several rules, the numbers of rows they are built for, and what is measured of them."""

    name: Name | None = Field(default=None, description="Names the results; by default the rules.")
    rule: RuleField | None = Field(default=None, description="The rule; or `rules`, a list that one table compares.")
    rules: Annotated[tuple[RuleField, ...], Strict(False), ONE_OR_MORE] = ()
    pre: Annotated[tuple[PreField, ...], Strict(False), ONE_OR_MORE] = Field(
        default=(), description="Pre-aggregations before every rule."
    )
    n: Annotated[Count, Field(le=10_000)] = Field(default=25, description="Rows.")
    f: int = Field(default=5, ge=0, description="Byzantine rows, declared and real (breakdown: declared).")
    d: Annotated[Count, Field(le=10_000_000)] = Field(default=1000, description="Parameters.")
    norm: float = Field(default=1.0, ge=1e-9, le=1e9, description="Length of the true gradient g.")
    sigma: float | None = Field(
        default=None, gt=0, le=1e9, description="Deviation of each coordinate of an honest row; default norm / sqrt(d)."
    )
    gradients: Gradients | None = Field(default=None, description="In place of d, norm and sigma: those of a model.")
    attacks: Annotated[
        tuple[Attack, ...],
        Strict(False),
        BeforeValidator(_all_or_listed, json_schema_input_type=Literal["all"] | tuple[Attack, ...]),
    ] = Field(
        default=(), description="Names and options; all: every attack that makes rows. A searched one always joins."
    )
    samples: Annotated[int, Field(ge=3, le=1_000_000)] = Field(default=200, description="Draws of honest rows.")
    budget: Annotated[int, Field(ge=100, le=10_000_000)] = Field(
        default=8000, description="Times that a search asks the rule."
    )
    dimensions: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000_000)], ...], Strict(False), ONE_OR_MORE] = Field(
        default=(10, 100, 1000, 10_000), description="d of each point of the leak."
    )
    parts: Annotated[tuple[Measurement, ...], Strict(False), ONE_OR_MORE] = Field(
        default=PARTS, description="Parts that are measured."
    )
    seed: int = Field(default=0, ge=0, lt=SEEDS)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.rule is None) == (not self.rules):
            raise ValueError("rule: one rule is needed, or rules, a list of them")
        if len(set(self.subjects)) < len(self.subjects):
            raise ValueError("rules: the same rule twice: remove one")
        if self.f >= self.n:
            raise ValueError(f"f: of n={self.n} rows at least one must be honest: f is at most {self.n - 1}")
        if self.gradients and (fixed := {"d", "norm", "sigma"} & self.model_fields_set):
            raise ValueError(f"gradients: {', '.join(sorted(fixed))} would be measured: leave one of the two out")
        if self.sigma is not None and self.sigma < (least := SMALLEST_NOISE * self.norm / math.sqrt(self.d)):
            raise ValueError(
                f"sigma: beside a gradient of length {self.norm:g} in d={self.d} parameters float32 keeps no noise "
                f"below {least:.2g}: take a larger sigma, got {self.sigma:g}"
            )
        if not self.parts:
            raise ValueError(f"parts: at least one of {', '.join(PARTS)} is needed")
        if "leak" in self.parts and len(set(self.dimensions)) < 2:
            raise ValueError("dimensions: two different ones are needed, such as [100, 10000]")
        return self

    @property
    def subjects(self) -> tuple[Part, ...]:
        """The rules that are measured."""
        return self.rules or ((self.rule,) if self.rule else ())

    @property
    def attackers(self) -> tuple[Part, ...]:
        """The attacks; with `all` also those that make no rows."""
        return self.attacks or parse_as(_Attacks, {"attacks": list(members.available("attack"))}).attacks


class _Attacks(Description, frozen=True):
    attacks: Annotated[tuple[Attack, ...], Strict(False)] = ()


def load(path: Path | None, flags: dict[str, Any], settings: Sequence[str] = ()) -> Certificate:
    """Loads a certificate.

    Args:
        path: The file; None for none.
        flags: Options of the command line by key, over the file.
        settings: Texts `key=value`, over both.

    Returns:
        The certificate.

    Raises:
        ScenarioError: One line for each mistake, each beginning with the file's name where there is one.
    """
    if path is None:
        return _described({}, flags, settings)
    if not path.exists() and str(path) in members.available("rule"):
        raise ScenarioError(f"{path}: no such file: the rule of this name is --rule {path}")
    raw = read_mapping(path, "rule or rules", "certificates")
    with prefix_errors(path):
        if {"data", "attack"} <= set(raw):
            raise ScenarioError(
                "this is a scenario, of byzax run: a certificate has rule or rules, n and f, and no data or attack: "
                "such as --rule krum -n 25 -f 5 without a file"
            )
        return _described(raw, flags, settings)


def _described(raw: dict[str, Any], flags: dict[str, Any], settings: Sequence[str]) -> Certificate:
    if "rules" in flags:
        raw = {key: value for key, value in raw.items() if key != "rule"}
    raw = raw | flags
    if isinstance(raw.get("rules"), list) and len(raw["rules"]) == 1 and "rule" not in raw:
        # a list of one rule is `rule`: --set rule.KEY=VALUE can follow, and mistakes name `rule`
        raw = {"rule": raw["rules"][0], **{key: value for key, value in raw.items() if key != "rules"}}
    for text in settings:
        raw = override(raw, text, Certificate)
    if not raw.get("rule") and not raw.get("rules"):
        raise ScenarioError("rule: is missing: --rule NAME, or a file with rule or rules")
    return parse_as(Certificate, raw)
