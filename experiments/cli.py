"""The command line: `byzax run`, `tune`, `replay`, `timeline`, `partition`, `certify`, `show`, `list`, `bench`..."""

# jax, ray, pandas and matplotlib are imported inside the commands: `byzax --help` answers at once
import atexit
import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from byzax.experiments.benchmarks.command import bench
from byzax.experiments.breakdown.command import EXIT_CODES as BREAKDOWN_EXIT_CODES
from byzax.experiments.breakdown.command import breakdown
from byzax.experiments.certify.command import EXIT_CODES as CERTIFY_EXIT_CODES
from byzax.experiments.certify.command import certify
from byzax.experiments.html_report.command import report, serve
from byzax.experiments.plot_command import plot
from byzax.experiments.reference_commands import list_, schema
from byzax.experiments.refusing import INTERRUPTED, TERMINATED
from byzax.experiments.reproduction.command import EXIT_CODES as REPRODUCE_EXIT_CODES
from byzax.experiments.reproduction.command import reproduce
from byzax.experiments.result_commands import SHOW_CODES, ledger, partition, replay, show, status, timeline, topology
from byzax.experiments.study_commands import EXIT_CODES, run, tune

app = typer.Typer(
    name="byzax",
    help="Byzantine-robust federated learning, simulated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"byzax {importlib.metadata.version('byzax')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


app.add_typer(bench, name="bench")
app.command(epilog=CERTIFY_EXIT_CODES)(certify)
app.command(epilog=EXIT_CODES)(run)
app.command(epilog=EXIT_CODES)(tune)
app.command(epilog=BREAKDOWN_EXIT_CODES)(breakdown)
app.command(epilog=REPRODUCE_EXIT_CODES)(reproduce)
app.command()(status)
app.command(epilog=SHOW_CODES)(show)
app.command()(plot)
app.command()(report)
app.command()(serve)
app.command()(replay)
app.command()(timeline)
app.command()(topology)
app.command()(ledger)
app.command()(partition)
app.command("list")(list_)
app.command()(schema)


def main() -> None:
    """The entry point.

    After an interrupt the process ends without tearing down the interpreter, for threads of XLA that are still at work
    may then abort it ("Fatal Python error", exit code 134 in place of 130).
    """
    # XLA reads it at its start, and checks may start it long before a run
    os.environ.setdefault("NPROC", os.environ.get("BYZAX_THREADS", "1"))
    try:
        app(prog_name="byzax")
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise
