"""``hdt report`` and ``hdt view``: a run in pictures, on a page that stands still and on one that does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from hdt.cli.terminal import Data, Run, say
from hdt.system.errors import InputError

if TYPE_CHECKING:
    from hdt.run.distilled import Distilled


def report(run: Run, data: Data = None) -> None:
    """Draw a run again: report.html and PNG pictures in the run folder."""
    from hdt.run import report as pictures

    print(pictures.write(_with_real(run, data), run))


def view(
    run: Run,
    data: Data = None,
    out: Annotated[Path | None, Option(help="HTML file; by default view.html in the run folder.")] = None,
    no_open: Annotated[bool, Option("--no-open", help="Print where the page is, and leave the browser alone.")] = False,
) -> None:
    """Open an interactive page of a run: channels, real and synthetic, spectra, autocovariances, test errors.

    One file that needs no network. Needs plotly, 'hdt-ts[view]'.
    """
    from hdt.run import view as page
    from hdt.run.records import VIEW

    file = page.write(_with_real(run, data), run, out or run / VIEW)
    print(file)
    if not no_open and sys.stdout.isatty():
        typer.launch(str(file))


def _with_real(run: Path, data: str | None) -> Distilled:
    """A run with the real series where they are found; without them it is drawn alone."""
    from hdt.run.distilled import Distilled
    from hdt.run.source import real_data, same_data

    distilled = Distilled.load(run)
    if distilled.info.privacy is not None:
        if data is not None:
            raise InputError(f"{run}: this run is private, and its pages do not show real series; leave --data out")
        return distilled
    try:
        panel = real_data(distilled, data)
        same_data(distilled, panel)
        return distilled.with_panel(panel)
    except InputError as error:
        if data is not None:
            raise
        say(f"note: drawn without the real series ({error})")
        return distilled
