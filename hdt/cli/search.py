"""``hdt search``: models and hyperparameters chosen on a run in place of all data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from hdt.cli.bench import Address, Engine
from hdt.cli.terminal import (
    AsJson,
    Data,
    Device,
    Run,
    local_path,
    print_json,
    print_table,
    progress_bar,
    resumable,
    say,
)


def search(
    run: Run,
    space: Annotated[
        Path | None, Option(help="Search space, YAML or JSON; by default hdt's own students.", parser=local_path)
    ] = None,
    trials: Annotated[int, Option(help="Configurations tried, in all.")] = 50,
    top: Annotated[int, Option(help="Of them trained on all data in the end.")] = 5,
    no_prune: Annotated[bool, Option("--no-prune", help="Train every configuration to its end.")] = False,
    seed: Annotated[int, Option(help="Of proposals and trainings.")] = 0,
    device: Device = "auto",
    data: Data = None,
    workers: Annotated[int | None, Option(min=1, help="Processes of the Ray that is started here.")] = None,
    engine: Engine = "local",
    address: Address = None,
    out: Annotated[Path | None, Option(help="Folder of study and leaderboard; by default RUN-search.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose a student and its hyperparameters on a run; train the best few on all data.

    Interrupted, the same command goes on; with more --trials it adds to them. study.db in the folder opens in
    optuna-dashboard. With --engine ray every training is a task; what is found is the same, however many run at once.
    """
    from hdt.selection import leaderboard
    from hdt.selection.search import search as explore

    run = run.resolve() if run.name in ("", "..") else run
    out = out or run.with_name(f"{run.name}-search")
    place = "the trainings that are done" if engine == "ray" else "the last look at the validation part"
    with progress_bar() as bar, resumable(place):
        task = bar.add_task("searching", total=None)
        found = explore(
            run, space, trials=trials, top=top, prune=not no_prune, seed=seed, data=data, device=device, out=out,
            workers=workers, engine=engine, address=address,
            watch=lambda label, done, total: bar.update(task, description=label, completed=done, total=total),
        )  # fmt: skip
    if as_json:
        return print_json({**leaderboard.as_json(found.table, found.agreement), "out": str(out)})
    print_table(found.title, *leaderboard.pivot(found.table))
    if found.agreement is not None:
        print(leaderboard.in_words(found.agreement))
    say(f"written: {out}; all trials: optuna-dashboard sqlite:///{out}/study.db")
