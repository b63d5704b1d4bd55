"""The command `byzax certify`."""

# slow imports are inside the commands: `byzax --help` answers at once
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from byzax.experiments.refusing import QUIET, check_environment, refuse, report_errors, signal_outcome

EXIT_CODES = (
    "Exit codes: 0, it was measured (whatever came out); 2, a mistake in what was asked, and nothing was started; 130 "
    "and 143, interrupted (Ctrl-C, SIGTERM), and the rules that were measured are kept."
)


@report_errors
def certify(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Certificate to measure, in YAML.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A rule, by name or as {name: ..., option: ...}; again for more."),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", metavar="ROWS", help="Rows; by default 25.")] = None,
    f: Annotated[int | None, typer.Option("-f", metavar="BYZANTINE", help="Byzantine rows; by default 5.")] = None,
    d: Annotated[int | None, typer.Option("-d", metavar="PARAMETERS", help="By default 1000.")] = None,
    attack: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An attack; again for more; by default all.")
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="DRAWS", help="Draws of honest rows; by default 200.")] = None,
    sigma: Annotated[
        float | None, typer.Option(metavar="SIGMA", help="Noise of each coordinate; by default |g| / sqrt(d).")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="SEED", help="By default 0.")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the results; by default results/certify-RULE.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override: --set norm=2 --set 'parts=\\[leak]'."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the certificate that --out holds, once a rule is measured.")
    ] = False,
    quiet: QUIET = False,
) -> None:
    """Measure how resilient rules are: angle, kappa, breakdown point, hidden vulnerability, beside what is proven."""
    from byzax.experiments.certify import description
    from byzax.experiments.names import file_name
    from byzax.experiments.strict_yaml import parse_text
    from byzax.simulator.mistakes import ScenarioError

    check_environment()
    if out is not None and not out.strip():
        refuse("--out: is empty: give it a value, or leave it out")
    try:
        numbers = {"n": n, "f": f, "d": d, "samples": samples, "sigma": sigma, "seed": seed}
        flags: dict[str, Any] = {key: value for key, value in numbers.items() if value is not None}
        if rule:
            flags["rules"] = [parse_text(text, "--rule") for text in rule]
        if attack:
            flags["attacks"] = "all" if "all" in attack else [parse_text(text, "--attack") for text in attack]
        asked = description.load(file, flags, settings or [])
        folder = Path(out) if out else Path("results", file_name(["certify", asked.name or _rules(asked)], []))
        _certify(asked, file, folder, overwrite, quiet)
    except ScenarioError as error:
        refuse(error)
    except KeyboardInterrupt as interrupt:
        word, code = signal_outcome(interrupt)
        typer.echo(f"{word}: no rule was measured to its end", err=True)
        raise typer.Exit(code) from None


def _rules(asked: Any) -> str:
    return "-".join(dict.fromkeys(part.name for part in asked.subjects))


def _certify(asked: Any, file: Path | None, folder: Path, overwrite: bool, quiet: bool) -> None:
    """Measures, writes and prints a certificate. Raises ScenarioError before the first measurement.

    A KeyboardInterrupt passes on where there is no result to keep.
    """
    from rich.console import Console
    from rich.markup import escape

    from byzax.experiments import outputs
    from byzax.experiments.certify import measuring, plot, report
    from byzax.experiments.versions import versions
    from byzax.simulator import compilation
    from byzax.simulator.mistakes import prefix_errors

    inputs = [file] if file else []
    outputs.check([folder], inputs, overwrite, "certificate")
    compilation.use_disk_cache()
    with prefix_errors(file) if file else nullcontext():
        plan = measuring.plan_measurements(asked)
    versions()
    outputs.claim([folder], inputs, overwrite, "certificate", keep=True)
    errors = Console(stderr=True)
    findings: list[measuring.Findings] = []
    end: tuple[str, int] | None = None
    try:
        # a notebook gives its commands a terminal, and shows the codes that move a cursor as they are
        moving = errors.is_terminal and not quiet and "JPY_PARENT_PID" not in os.environ
        with errors.status("measuring") if moving else nullcontext() as status:

            def say(text: str) -> None:
                if status is not None:
                    status.update(escape(text))
                elif not quiet:
                    typer.echo(text, err=True)

            for each in measuring.measure_all(plan, say):
                findings.append(each)
                # a rule may take an hour: finished ones are on disk at every moment
                report.write(folder, plan, findings)
                # plots of a certificate that was there would be beside another one's numbers
                outputs.remove(folder / name for name in report.FILES if name.endswith((".png", ".svg")))
    except KeyboardInterrupt as interrupt:
        if not findings:
            outputs.release(folder)
            raise
        end = signal_outcome(interrupt)
    written = [*report.write(folder, plan, findings), *plot.draw(folder, plan, findings)]
    console = Console(width=None if sys.stdout.isatty() else 140)
    report.show(plan, findings, console)
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)
    if end:
        word, code = end
        typer.echo(f"{word}: {len(findings)} of {len(plan.subjects)} rules are measured, and kept", err=True)
        raise typer.Exit(code)
