"""The command line: parse, call the api, print. Data on stdout, progress and messages on stderr."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from hdt.cli import audit, bench, data, search, share, show, tune, update
from hdt.cli.data import split_of
from hdt.cli.terminal import (
    AsJson,
    Data,
    Device,
    DownloadBar,
    Run,
    checkpoint_beside,
    local_path,
    print_json,
    print_settings,
    print_summary,
    print_table,
    progress_bar,
    resumable,
    say,
)  # fmt: skip
from hdt.system.errors import InputError, readable

if TYPE_CHECKING:
    from hdt.run.distilled import Distilled

NOT_SETTINGS = {
    "data", "option", "recipe", "out", "force", "state", "dry_run", "as_json", "engine", "workers", "address",
}  # fmt: skip

app = typer.Typer(
    help="Distil a long time series into a few hundred synthetic steps on which forecasters train as well.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(bench.recipes, name="recipes")


def _print_version(asked: bool) -> None:
    if asked:
        from hdt.version import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def distill(
    context_: typer.Context,
    data: Annotated[
        str | None, Argument(help="Registry name, path of a text or .parquet table, or folder of parquet files.")
    ] = None,
    method: Annotated[str | None, Option(help="Method; see 'hdt cite'. auto: what we would take for networks.")] = None,
    length: Annotated[int | None, Option(help="M, synthetic steps.")] = None,
    sequences: Annotated[int | None, Option(help="N, synthetic sequences; 2 for one channel.")] = None,
    channels: Annotated[
        str | None, Option(help="Synthetic channels, or all; more than 32 become 8 by default.")
    ] = None,
    channel_batch: Annotated[
        int | None, Option(help="Channels per iteration: by default 32 beyond 64, else all.")
    ] = None,
    budget: Annotated[int | None, Option(help="Stored floats at most: sets M and the channels.")] = None,
    k: Annotated[str | None, Option("--k", help="Harmonics kept per channel, or auto: 99% of the energy.")] = None,
    lam: Annotated[str | None, Option("--lam", help="λ, weight of the amplitudes, or auto: equal gradients.")] = None,
    acf_weight: Annotated[float | None, Option(help="Weight of the PSD gap that bounds the ACF gap.")] = None,
    context: Annotated[int | None, Option(help="L, steps a student sees.")] = None,
    horizon: Annotated[int | None, Option(help="H, steps a student forecasts.")] = None,
    parameterization: Annotated[str | None, Option(help="What is learned; see docs/methods.")] = None,
    objective: Annotated[str | None, Option(help="What is matched; see docs/methods.")] = None,
    backbone: Annotated[str | None, Option(help="Student whose gradients are matched.")] = None,
    start: Annotated[
        str | None,
        Option(help="phase: real spectrum, random phases; real: a real segment; herding, kcenter: chosen ones."),
    ] = None,
    iterations: Annotated[int | None, Option(help="Optimiser steps.")] = None,
    learning_rate: Annotated[float | None, Option(help="Adam's, cosine to zero.")] = None,
    period: Annotated[int | None, Option(help="Steps per row, for methods that fold series.")] = None,
    option: Annotated[list[str] | None, Option(help="Any other hyperparameter, name=value.")] = None,
    seed: Annotated[int | None, Option(help="Equal seeds give equal bytes.")] = None,
    device: Annotated[str | None, Option(help="auto, cpu or cuda.")] = None,
    epsilon: Annotated[float | None, Option(help="ε: make the set differentially private for any one series.")] = None,
    delta: Annotated[float | None, Option(help="δ of that, 1e-5 by default.")] = None,
    missing: data.MissingCells = None,
    split: data.Split = None,
    time_column: data.TimeColumn = None,
    id_column: data.IdColumn = None,
    target_column: data.TargetColumn = None,
    sep: data.Sep = None,
    decimal: data.Decimal = None,
    dayfirst: data.DayFirst = None,
    freq: data.Freq = None,
    resample: data.Resample = None,
    transform: data.Transform = None,
    known: data.Known = None,
    past: data.Past = None,
    static: data.Static = None,
    calendar: data.Calendar = None,
    recipe: Annotated[Path | None, Option(help="Settings to start from; flags win.", parser=local_path)] = None,
    engine: bench.Engine = "local",
    workers: Annotated[
        int | None, Option(min=1, help="Processes of the Ray started here; by default one a core.")
    ] = None,
    address: bench.Address = None,
    out: Annotated[Path | None, Option(help="Run folder; by default runs/DATA-METHOD-LENGTH.")] = None,
    force: Annotated[bool, Option("--force", help="Replace an existing run folder.")] = False,
    state: Annotated[bool, Option("--state", help="Keep what 'hdt update' needs: some MB, M real rows in it.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the settings, floats and memory; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Distil DATA and write a run folder. Interrupted, the same command goes on where it was."""
    from hdt.data.stored import Stored
    from hdt.distillation.config import ALL
    from hdt.distillation.loop import KEEP_SECONDS
    from hdt.distillation.recipe import number_or, parse_options, read_recipe
    from hdt.run import kept, plan, produce, reading
    from hdt.run.distilled import check_target

    named, from_recipe = read_recipe(recipe) if recipe else (None, {})
    data = data or named
    if data is None:
        raise InputError("no data given; name a data set (hdt data ls), a .csv or .parquet path, or a --recipe")
    flags = {name: v for name, v in context_.params.items() if v not in (None, [], ()) and name not in NOT_SETTINGS}
    words = {"k": "auto", "lam": "auto", "channels": ALL}
    flags |= {name: number_or(word, name, flags[name]) for name, word in words.items() if name in flags}
    if split is not None:
        flags["split"] = split_of(split)
    given = {**from_recipe, **parse_options(option), **flags}
    panel, settings = produce.prepare(data, DownloadBar(), **given)
    reading.check_sharing(panel, engine, workers, address)
    if state and (why := kept.refusal(panel, settings)):
        raise InputError(why)
    if dry_run:
        told = plan.plan(panel, settings)
        return print_json(told) if as_json else print_settings(told)
    out = out or Path("runs") / f"{Path(panel.name).stem}-{settings.method}-{settings.length}"
    check_target(out, force)
    little = plan.little_compression(panel, settings)
    if little is not None:
        say(f"note: {little}")
    checkpoint = checkpoint_beside(out)
    with (
        reading.shared(panel, engine, workers, address),
        progress_bar() as bar,
        resumable("its beginning" if settings.epsilon else f"the last checkpoint, one every {KEEP_SECONDS:g} seconds"),
    ):
        task = bar.add_task(f"distilling {panel.name}", total=max(settings.iterations, 1))
        if isinstance(panel.values, Stored):
            panel.values.watch = lambda c, all_: bar.update(task, description=f"reading column {c:,} of {all_:,}")
        distilled = produce.distill_panel(
            panel, settings, checkpoint=checkpoint,
            watch=lambda done, _, terms: bar.update(task, completed=done, description=f"loss {terms['loss']:.4f}"),
        )  # fmt: skip
    distilled.save(out, force=force, state=state)
    checkpoint.unlink(missing_ok=True)
    info = distilled.info
    for notice in info.data.notices:
        if notice != readable(little or ""):  # said before the work
            say(f"note: {notice}")
    if as_json:
        fields = {
            "method": settings.method, "dataset": panel.name, "length": settings.length,
            "channels": len(distilled.columns), "floats": info.floats, "compression": info.compression,
            "seconds": info.seconds, "peak_rss_mb": info.peak_rss_mb, "out": str(out),
            "psd_gap": info.psd_gap, "acf_gap": info.acf_gap,
        }  # fmt: skip
        return print_json(fields)
    print_summary(distilled, out)


@app.command()
def evaluate(
    run: Run,
    student: Annotated[list[str] | None, Option(help="Student to train; repeat for several.")] = None,
    seeds: Annotated[int, Option(help="Trainings per row.")] = 3,
    device: Device = "auto",
    no_validation: bench.NoValidation = False,
    quantiles: bench.Quantiles = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Train students on a run, on random segments and on all data; print their test errors."""
    from hdt.evaluation import protocol
    from hdt.run.distilled import Distilled
    from hdt.run.records import record_evaluation

    distilled = Distilled.load(run)
    if not os.access(run, os.W_OK):
        say(f"note: {run}: cannot write here; the results are printed, but not kept for the report")
    with progress_bar() as bar:
        task = bar.add_task("training", total=None)
        table = protocol.evaluate(
            distilled, data, students=student or ["dlinear"], seeds=seeds, device=device,
            validation=not no_validation, quantiles=quantiles,
            watch=lambda label, done, total: bar.update(task, description=label, completed=done, total=total),
        )  # fmt: skip
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    _print_evaluation(distilled, rows, as_json)
    if distilled.info.privacy is None:
        record_evaluation(run, rows)
    else:
        say(f"note: {run} is private, and errors on real data are not; they are not kept there")


def _print_evaluation(distilled: Distilled, rows: list[dict[str, Any]], as_json: bool) -> None:
    from hdt.evaluation.scores import readable as readable_rows

    own = [row for row in rows if row["trained_on"] == "distilled"]
    if as_json:
        keys = ["student", "mse", "mse_std", "mae", "mae_std", "seeds", "train_seconds"]
        keys += ["crps", "wql", "coverage_80"] if "wql" in rows[0] else []
        return print_json({"results": [{key: row[key] for key in keys} for row in own], "rows": rows})
    headings, cells = readable_rows(rows)
    info = distilled.info
    title = f"{info.data.name}, {info.settings.context}→{info.settings.horizon}, test errors in scaled units"
    print_table(title, headings, cells)


app.command()(bench.compare)
app.command()(tune.finetune)
app.command()(search.search)
app.command()(update.update)
app.command()(audit.audit)
app.command()(share.push)
app.command()(share.pull)
app.command()(show.report)
app.command()(show.view)


@app.command()
def cite(method: Annotated[str | None, Argument(help="Method; all of them by default.")] = None) -> None:
    """BibTeX of the methods."""
    from hdt.distillation.methods import METHODS

    chosen = [METHODS[name].citation for name in ([method] if method else METHODS)]
    print("\n\n".join(citation or "% nothing to cite" for citation in chosen))


@app.command("doctor")
def _doctor(as_json: AsJson = False) -> None:
    """Versions, device and data folders: what to paste into a bug report."""
    from hdt.cli.doctor import doctor

    facts = doctor()
    if as_json:
        return print_json(facts)
    for name, value in facts.items():
        print(f"{name:12} {', '.join(map(str, value)) if isinstance(value, list) else value}")
