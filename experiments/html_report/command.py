"""The commands `byzax report` and `byzax serve`."""

# pandas and matplotlib are imported inside the commands: `byzax --help` answers at once
from pathlib import Path
from typing import Annotated

import typer

from byzax.experiments.refusing import refuse, report_errors
from byzax.simulator.mistakes import ScenarioError


@report_errors
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study of byzax run.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The report; by default report.html in the folder of the study.")
    ] = None,
) -> None:
    """Write the report of a study: one HTML file with tables, curves, heat maps and statistics.

    It loads nothing from elsewhere. Tables are sorted and filtered, lines shown and hidden, and curves zoomed in the
    browser.
    """
    from byzax.experiments import api

    try:
        typer.echo(api.load(folder).report(out))
    except (ScenarioError, ValueError) as error:
        refuse(error)


@report_errors
def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study of byzax run, also while it runs.")],
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="The port; 0 for any free one.")] = 8765,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address that it listens at.")] = "127.0.0.1",
) -> None:
    """Show the report of a study in the browser, and renew it while the study runs.

    Ctrl-C ends it.
    """
    from byzax.experiments.html_report.serving import open_server

    try:
        server = open_server(folder, host, port)
    except ScenarioError as error:
        refuse(error)
    with server:
        typer.echo(f"http://{host}:{server.server_port}/")
        server.serve_forever()
