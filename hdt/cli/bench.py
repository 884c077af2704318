"""``hdt compare`` and ``hdt recipes``: the tables that decide which method to trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from hdt.cli import data as tables
from hdt.cli.terminal import AsJson, Device, DownloadBar, print_json, print_table, progress_bar, say
from hdt.system.errors import InputError, require

NoValidation = Annotated[
    bool, Option("--no-validation", help="Choose nothing on real data: published rate, last weights.")
]
Quantiles = Annotated[
    bool, Option("--quantiles", help="Students forecast nine quantiles: CRPS, weighted quantile loss, coverage.")
]
Engine = Annotated[
    str, Option(help="local, or ray: distillations, trainings and blocks of a large table as its tasks.")
]
Address = Annotated[
    str | None, Option(help="HOST:PORT of the Ray this machine is part of; by default one is started here.")
]
recipes = typer.Typer(help="List, show and run the recipes of published results.", no_args_is_help=True)


def compare(
    data: Annotated[str, Argument(help="Registry name, .csv or .parquet path, or folder of parquet files.")],
    method: Annotated[list[str] | None, Option(help="Method; repeat for several. All by default.")] = None,
    student: Annotated[
        list[str] | None, Option(help="Student or module:Network; repeat for several. All by default.")
    ] = None,
    length: Annotated[int | None, Option(help="M, synthetic steps.")] = None,
    context: Annotated[int | None, Option(help="L, steps a student sees.")] = None,
    horizon: Annotated[int | None, Option(help="H, steps a student forecasts.")] = None,
    k: Annotated[str | None, Option("--k", help="Harmonics kept per channel, for methods that choose them.")] = None,
    seeds: Annotated[int, Option(help="Distillations per method, one training of each student on each.")] = 3,
    vary: Annotated[str | None, Option(help="One setting at several values: length=240,384,768 or k=8,32.")] = None,
    option: Annotated[list[str] | None, Option(help="Any other setting, name=value.")] = None,
    missing: tables.MissingCells = None,
    split: tables.Split = None,
    time_column: tables.TimeColumn = None,
    id_column: tables.IdColumn = None,
    target_column: tables.TargetColumn = None,
    sep: tables.Sep = None,
    decimal: tables.Decimal = None,
    dayfirst: tables.DayFirst = None,
    freq: tables.Freq = None,
    resample: tables.Resample = None,
    transform: tables.Transform = None,
    known: tables.Known = None,
    past: tables.Past = None,
    static: tables.Static = None,
    calendar: tables.Calendar = None,
    no_validation: NoValidation = False,
    quantiles: Quantiles = False,
    device: Device = "auto",
    workers: Annotated[int | None, Option(min=1, help="Processes that share the work.")] = None,
    engine: Engine = "local",
    address: Address = None,
    out: Annotated[Path | None, Option(help="Folder of results, taken up again; by default runs/compare-DATA.")] = None,
    as_json: AsJson = False,
) -> None:
    """Distil DATA with every method, train every student on each, and print them beside full data.

    Finished cells are kept in the folder and not computed again.
    """
    from inspect import signature

    from hdt.distillation.recipe import number_or, parse_options
    from hdt.evaluation import compare

    harmonics = None if k is None else number_or("auto", "k", k)
    named: dict[str, Any] = {"length": length, "context": context, "horizon": horizon, "k": harmonics}
    named |= {"missing": missing, "split": None if split is None else tables.split_of(split), "freq": freq}
    named |= {"time_column": time_column, "id_column": id_column, "target_column": target_column}
    named |= {"sep": sep, "decimal": decimal, "dayfirst": dayfirst, "resample": resample}
    named |= {"transform": transform}
    named |= {"known": known or None, "past": past or None, "static": static or None, "calendar": calendar or None}
    options = parse_options(option)
    foreign = sorted(set(options) & {*signature(compare.compare).parameters, "method", "seed"})
    require(not foreign, f"--option {', '.join(foreign)}: not a setting of a comparison; see its flags with --help")
    given = {**options, **{name: value for name, value in named.items() if value is not None}}
    out = out or Path("runs") / f"compare-{Path(data).stem}"
    how = {"validation": not no_validation, "quantiles": quantiles, "device": device}
    how |= {"workers": workers, "engine": engine, "address": address}
    _compare(data, method, student, seeds, None if vary is None else _vary(vary), how, out, as_json, given)


def _compare(
    data: str,
    method: list[str] | None,
    student: list[str] | None,
    seeds: int,
    vary: dict[str, list[Any]] | None,
    how: dict[str, Any],
    out: Path,
    as_json: bool,
    given: dict[str, Any],
) -> None:
    import pandas as pd

    from hdt.data import datasets
    from hdt.evaluation import compare, figures, paired

    loading = {name: given.pop(name) for name in datasets.LOAD_DEFAULTS if name in given}
    panel = datasets.load(data, progress=DownloadBar(), **loading)
    with progress_bar() as bar:
        task = bar.add_task("comparing", total=None)
        table = compare.compare(
            panel, methods=method, students=student, seeds=seeds, vary=vary, out=out, **how,
            watch=lambda label, done, total: bar.update(task, description=label, completed=done, total=total), **given,
        )  # fmt: skip
    error, more = ("WQL", ", coverage of the 80% interval") if how.get("quantiles") else ("MSE", " (published)")
    title = f"{panel.name}: test {error}, {'one seed' if seeds == 1 else f'± over {seeds} seeds'}{more}"
    pairs = None if vary else paired.behind_best(pd.read_csv(out / compare.CELL_TABLE))
    if as_json:
        paired_rows = {} if pairs is None else {"paired": json.loads(pairs.to_json(orient="records"))}
        print_json({"rows": json.loads(table.to_json(orient="records")), **paired_rows})
    else:
        print_table(title, *figures.pivot(table))
        if pairs is not None and len(pairs) > 1:
            print_table("differences to the best method, paired by seed", *paired.readable(pairs))
    paths = figures.write(table, title, out)
    if not as_json:
        say(f"written: {', '.join(map(str, paths))}")


def _vary(text: str) -> dict[str, list[Any]]:
    from hdt.system.yaml12 import read_yaml

    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise InputError(f"--vary {text}: expected a setting and its values, such as length=240,384")
    return {name: [read_yaml(value, f"--vary {text}") for value in values.split(",")]}


@recipes.command("ls")
def recipes_ls(as_json: AsJson = False) -> None:
    """The recipes: one per published row."""

    from hdt.distillation.recipe import read_recipe, recipe_files

    rows = []
    for path in recipe_files():
        data, settings = read_recipe(path)
        rows.append({"name": path.stem, "data": data, "method": settings["method"], "length": settings["length"]})
    if as_json:
        return print_json({"recipes": rows})
    print_table("hdt recipes run NAME", list(rows[0]), [[str(value) for value in row.values()] for row in rows])


@recipes.command("show")
def recipes_show(name: Annotated[str, Argument(help="Recipe; see 'hdt recipes ls'.")]) -> None:
    """Print a recipe: its command and every setting."""

    from hdt.distillation.recipe import recipe_file

    print(recipe_file(name).read_text(encoding="utf-8"), end="")


@recipes.command("run")
def recipes_run(
    name: Annotated[str, Argument(help="Recipe; see 'hdt recipes ls'.")],
    student: Annotated[
        list[str] | None, Option(help="Student or module:Network; repeat for several. All by default.")
    ] = None,
    seeds: Annotated[int, Option(help="Distillations, one training of each student on each.")] = 3,
    device: Device = "auto",
    out: Annotated[Path | None, Option(help="Folder of results; by default runs/recipe-NAME.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe with several seeds; print its row beside random, full and published ones."""

    from hdt.distillation.recipe import read_recipe, recipe_file

    data, settings = read_recipe(recipe_file(name))
    if data is None:
        raise InputError(f"recipe {name} names no data")
    method = settings.pop("method")
    given = {key: value for key, value in settings.items() if key not in ("seed", "device")}
    out = out or Path("runs") / f"recipe-{name}"
    _compare(data, [method], student, seeds, None, {"device": device}, out, as_json, given)
