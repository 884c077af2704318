"""``hdt push`` and ``hdt pull``: runs as data set repositories of the Hugging Face hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from hdt.cli.terminal import AsJson, Run, print_json, print_summary, progress_bar, say
from hdt.system.errors import InputError

Repository = Annotated[str, Argument(help="OWNER/NAME of a data set repository.")]


def push(
    run: Run,
    repository: Repository,
    licence: Annotated[
        str | None, Option("--license", help="Of the source, such as cc-by-4.0; by default the registry's, else asked.")
    ] = None,
    private: Annotated[bool, Option("--private", help="Only you see the repository.")] = False,
    force: Annotated[bool, Option("--force", help="A new version of a run that is there.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the files and the card; reach nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Share a run: put it on the Hugging Face hub, with card, licence and Croissant metadata.

    Needs huggingface_hub, 'hdt-ts[hub]', and a token (hf auth login, or HF_TOKEN). Paths of this machine and the state
    of updates, which holds real rows, stay here.
    """
    from hdt.run import hub

    def go(under: str | None) -> hub.Shared:
        with progress_bar() as bar:
            bar.add_task(f"pushing {run}", total=None)
            return hub.push(run, repository, licence=under, private=private, force=force, dry_run=dry_run)

    try:
        shared = go(licence)
    except hub.NoLicence as error:
        if not sys.stdin.isatty() or as_json:
            raise InputError(str(error)) from None
        shared = go(typer.prompt(str(error), err=True))
    if as_json:
        told = {"repository": shared.repository, "url": shared.url, "license": shared.licence, "files": shared.files}
        return print_json({**told, "pushed": not dry_run})
    if dry_run:
        print(shared.card)
        for name, size in shared.files.items():
            print(f"{size:>12,}  {name}")
        say(f"nothing was pushed; without --dry-run it goes to {shared.url}")
    else:
        print(shared.url)


def pull(
    repository: Repository,
    revision: Annotated[str | None, Option(help="Branch, tag or commit; by default the newest.")] = None,
    out: Annotated[Path | None, Option(help="Run folder; by default runs/NAME.")] = None,
    force: Annotated[bool, Option("--force", help="Replace an existing run folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a run from the Hugging Face hub into a run folder, every file checked. Nothing in it is executed."""
    from hdt.run import hub

    out = out or Path("runs") / repository.rsplit("/", 1)[-1]
    with progress_bar() as bar:
        bar.add_task(f"pulling {repository}", total=None)
        distilled = hub.pull(repository, out, revision=revision, force=force)
    info = distilled.info
    if as_json:
        return print_json(
            {"dataset": info.data.name, "method": info.settings.method, "floats": info.floats, "out": str(out)}
        )
    print_summary(distilled, out)
