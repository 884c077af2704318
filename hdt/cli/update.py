"""``hdt update``: a run refined with rows that follow those it has seen."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from hdt.cli.terminal import AsJson, Run, print_json, print_summary, progress_bar, say


def update(
    run: Run,
    data: Annotated[str, Argument(help="Table with the rows that follow: a path, or a folder of parquet files.")],
    iterations: Annotated[int | None, Option(help="Optimiser steps; by default a quarter of the method's.")] = None,
    learning_rate: Annotated[float | None, Option(help="Adam's, cosine to zero; by default the run's.")] = None,
    device: Annotated[str | None, Option(help="auto, cpu or cuda; by default as the run had it.")] = None,
    out: Annotated[Path | None, Option(help="New run folder; by default RUN-u1, RUN-u2 after it.")] = None,
    force: Annotated[bool, Option("--force", help="Replace an existing run folder.")] = False,
    no_state: Annotated[bool, Option("--no-state", help="Keep nothing for further updates.")] = False,
    as_json: AsJson = False,
) -> None:
    """Refine a run that has a state with the rows that follow, without the old ones; write a new run folder.

    The rows follow the training part: validation and test parts of a run were never read.
    """
    from hdt.run.distilled import Distilled, check_target
    from hdt.run.update import update as go_on

    run = run.resolve() if run.name in ("", "..") else run
    out = out or _next(run)
    check_target(out, force)
    distilled = Distilled.load(run)
    with progress_bar() as bar:
        task = bar.add_task(f"updating {run}", total=None)
        updated = go_on(
            distilled, data, iterations=iterations, learning_rate=learning_rate, device=device,
            watch=lambda done, all_, terms: bar.update(
                task, completed=done, total=all_, description=f"loss {terms['loss']:.4f}"
            ),
        )  # fmt: skip
    info = updated.info
    words = ["hdt", "update", str(run), data, "--iterations", str(info.settings.iterations)]
    words += ["--learning-rate", str(info.settings.learning_rate)]
    updated.save(out, force=force, command=shlex.join(words), state=not no_state)
    for notice in info.data.notices:
        say(f"note: {notice}")
    if as_json:
        fields = {
            "method": info.settings.method, "dataset": info.data.name, "rows": info.data.rows,
            "parts": [part.model_dump() for part in info.data.parts], "floats": info.floats,
            "seconds": info.seconds, "out": str(out), "psd_gap": info.psd_gap, "acf_gap": info.acf_gap,
        }  # fmt: skip
        return print_json(fields)
    print_summary(updated, out)


def _next(run: Path) -> Path:
    """The name of the run after this one."""
    found = re.fullmatch(r"(.+)-u(\d+)", run.name)
    name, number = (found[1], int(found[2])) if found else (run.name, 0)
    return run.with_name(f"{name}-u{number + 1}")
