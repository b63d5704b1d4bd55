"""The commands that run studies: `byzax run` and `byzax tune`."""

# what loads jax, ray, pandas or matplotlib is imported inside the commands: `byzax --help` answers at once
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from byzax.experiments import command_steps
from byzax.experiments.refusing import (
    EXECUTOR,
    INTERRUPTED,
    JOBS,
    OVERWRITE,
    QUIET,
    RAY_ADDRESS,
    RETRIES,
    RETRY_FAILED,
    TERMINATED,
    refuse,
    report_errors,
)
from byzax.experiments.result_commands import summarise
from byzax.simulator.mistakes import ScenarioError

EXIT_CODES = (
    "Exit codes: 0, every run was completed; 1, a run failed, or a race lost workers (the others went on); 2, a "
    "mistake in what was asked, and nothing was started; 130 and 143, interrupted (Ctrl-C, SIGTERM), and what was done "
    "is kept."
)


class Measure(StrEnum):
    """The measures that `byzax tune` can choose by."""

    ACCURACY = "validation_accuracy"
    LOSS = "validation_loss"


@report_errors
def run(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Scenarios in YAML, or names of byzax list scenarios.")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the results; by default results/NAME.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override: --set rule.name=median --set steps=50."),
    ] = None,
    executor: EXECUTOR = None,
    ray_address: RAY_ADDRESS = None,
    jobs: JOBS = None,
    overwrite: OVERWRITE = False,
    retry_failed: RETRY_FAILED = False,
    retries: RETRIES = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the runs, and how long they will take by a few measured updates; run nothing."
        ),
    ] = False,
    shuffle: Annotated[
        bool,
        typer.Option(
            "--shuffle",
            help="Run the first seed of all combinations first, in random order, so that early results cover all.",
        ),
    ] = False,
    quiet: QUIET = False,
) -> None:
    """Run scenarios: every combination of the grid, every repeat.

    Where the folder of the results has some of the runs, these stay, one that was cut goes on, and the others are run.
    """
    overrides = command_steps.collect_overrides(
        settings, {"--out": out, "--executor": executor, "--ray-address": ray_address}
    )
    try:
        raws = command_steps.read_files(files, out, settings, overwrite)
        from byzax.experiments import outputs, study

        studies = [study.load(path, overrides, raw) for path, raw in zip(files, raws, strict=True)]
        folders = command_steps.output_folders(files, [each.study.name for each in studies], out)
        outputs.check(folders, files, overwrite, goes_on=True)
        studies = command_steps.check_studies(studies, ray_address, jobs)
        if dry_run:
            command_steps.foresee(studies, folders, retry_failed, jobs)
            return
    except ScenarioError as error:
        refuse(error)

    with command_steps.opened_folders(folders, studies, files, overwrite, retry_failed) as standings:
        code = command_steps.perform(
            list(zip(studies, folders, standings, strict=True)),
            ray_address,
            quiet,
            jobs=jobs,
            shuffle=shuffle,
            retries=retries,
        )
        begun = [folder for folder in folders if any(folder.glob("runs/[!.]*/summary.json"))]
        for folder in folders:
            if folder not in begun:
                outputs.discard(folder)
        shown = summarise(begun, Path(out).name if out else None) if begun else 0
    raise typer.Exit(code or shown)


@report_errors
def tune(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A scenario in YAML, or a name of byzax list scenarios.")
    ],
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=[...]",
            help="Values to choose from, such as steps=[100,200], but not what decides which samples are measured "
            "(seed, data.validation); by default five learning rates around the scenario's, and momentum 0 or 0.9.",
        ),
    ] = None,
    by: Annotated[
        Measure | None,
        typer.Option(help="Measure to choose by; by default the accuracy, and without classes the loss."),
    ] = None,
    each: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Choose for each value of this key of the grid; by default once for all."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the results; by default results/NAME-tuning.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override: --set steps=50.")
    ] = None,
    executor: EXECUTOR = None,
    ray_address: RAY_ADDRESS = None,
    jobs: JOBS = None,
    overwrite: OVERWRITE = False,
    retry_failed: RETRY_FAILED = False,
    retries: RETRIES = 0,
    quiet: QUIET = False,
) -> None:
    """Choose learning rate, momentum or what you like on the validation samples, before any test number is taken.

    Runs every combination with the grid and the repeats of the scenario, and chooses the one with the best mean; ties
    go to the first. Test samples are not looked at. Writes tune.csv, and tuned.yaml for byzax run.
    """
    overrides = command_steps.collect_overrides(
        settings, {"--out": out, "--executor": executor, "--ray-address": ray_address}
    )
    try:
        (raw,) = command_steps.read_files([file], out, settings, overwrite, "-tuning")
        from byzax.experiments import outputs
        from byzax.experiments import tune as tuning

        planned = tuning.plan_tuning(file, overrides, over or [], each or [], by.value if by else None, raw)
        folders = command_steps.output_folders([file], [planned.expansion.study.name], out, "-tuning")
        outputs.check(folders, [file], overwrite, "tuning", goes_on=True)
        (checked,) = command_steps.check_studies([planned.expansion], ray_address, jobs)
        planned = planned._replace(expansion=checked)
    except ScenarioError as error:
        refuse(error)

    with command_steps.opened_folders(folders, [planned.expansion], [file], overwrite, retry_failed, "tuning") as (
        standing,
    ):
        _tune(file, planned, folders[0], standing, ray_address, quiet, jobs, retries)


def _tune(
    file: Path,
    planned: Any,
    folder: Path,
    standing: Any,
    ray_address: str | None,
    quiet: bool,
    jobs: int | None,
    retries: int,
) -> None:
    """Runs the combinations of a tuning that are not there, and chooses; ends the command."""
    from rich.console import Console

    from byzax.experiments import tune as tuning

    if tuning.shares_test_samples(planned):
        typer.echo(
            f"{file}: each repeat draws test samples of its own, which are others' validation samples: to keep them "
            "apart set repeats=1, or take data with a test set",
            err=True,
        )
    code = command_steps.perform(
        [(planned.expansion, folder, standing)], ray_address, quiet, planned.by, tuning.HIDDEN, jobs, retries=retries
    )
    if tuning.discard_if_empty(folder):
        raise typer.Exit(code)
    rows = tuning.tried_combinations(folder, planned)
    if code in (INTERRUPTED, TERMINATED):
        # no choice among the combinations that happened to run first
        rows = [row._replace(best=False) for row in rows]
    written = tuning.write(folder, planned, rows)
    console = Console(width=None if sys.stdout.isatty() else 140)
    tuning.show(folder, console)
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)
    if not any(row.best for row in rows):
        typer.echo("nothing is chosen: no combination has all its runs, with finite numbers", err=True)
        raise typer.Exit(code or 1)
    raise typer.Exit(code)
