"""The commands `byzax list` and `schema`."""

# jax and pydantic models are imported inside the commands: `byzax --help` answers at once
import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from byzax.experiments.refusing import refuse, report_errors


class Listing(StrEnum):
    """The kinds of members that `byzax list` lists."""

    RULES = "rules"
    PRE = "pre"
    FILTERS = "filters"
    ATTACKS = "attacks"
    MODELS = "models"
    DATA = "data"
    PARTITIONS = "partitions"
    AUGMENTATIONS = "augmentations"
    SCHEDULES = "schedules"
    TIMINGS = "timings"
    TOPOLOGIES = "topologies"
    TRANSFORMS = "transforms"
    GRAPHS = "graphs"
    MIXING = "mixing"
    LATENCY = "latency"
    RATES = "rates"
    OPTIMIZERS = "optimizers"
    LOGGERS = "loggers"
    EXECUTORS = "executors"
    SCENARIOS = "scenarios"
    CERTIFICATES = "certificates"


@report_errors
def list_(
    kind: Annotated[Listing | None, typer.Argument(help="Kind to list; without one, the kinds themselves.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table in Markdown, without the options.")] = False,
) -> None:
    """List what a scenario can name, with conditions, options and sources; and the files that come with byzax."""
    from rich.console import Console

    from byzax.experiments import listing

    if kind is Listing.SCENARIOS or kind is Listing.CERTIFICATES:
        if markdown:
            refuse(f"--markdown: is for parts, and {kind.value} are files: leave it out")
        Console(width=None if sys.stdout.isatty() else 140).print(listing.files(kind.value))
        return
    if markdown and kind is None:
        refuse(f"--markdown: a kind is needed: {', '.join(listing.KINDS)}")
    if markdown and kind is not None:
        typer.echo(listing.markdown(kind.value))
        return
    table = listing.kinds() if kind is None else listing.table(kind.value)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    for line in listing.functions(kind.value)[1] if kind else ():
        typer.echo(f"left out: {line}", err=True)


class DescribedFile(StrEnum):
    """The files that `byzax schema` describes."""

    SCENARIO = "scenario"
    CERTIFICATE = "certificate"


@report_errors
def schema(
    described: Annotated[
        DescribedFile, typer.Argument(help="The file of byzax run, or of certify.")
    ] = DescribedFile.SCENARIO,
) -> None:
    """Print the JSON Schema of a scenario or a certificate; editors complete and check YAML files with it.

    Save it (byzax schema > byzax.json) and begin a scenario with: # yaml-language-server: $schema=byzax.json
    """
    from byzax.experiments.certify.description import Certificate
    from byzax.simulator.config.schema import json_schema
    from byzax.simulator.config.study import Study

    content = json_schema(Study if described is DescribedFile.SCENARIO else Certificate)
    if described is DescribedFile.SCENARIO:
        # a key of files alone: a study holds what came out
        extends = {"type": "string", "description": "Path of a scenario whose keys these are set over."}
        content["properties"]["extends"] = extends
        # they may be in the file that is extended
        content["anyOf"] = [{"required": content.pop("required")}, {"required": ["extends"]}]
    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **content}, indent=2))
