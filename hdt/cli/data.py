"""``hdt data``: list, fetch and describe the benchmark data sets."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument, Option

from hdt.cli.terminal import AsJson, DownloadBar, print_json, print_table
from hdt.system.errors import InputError

TimeColumn = Annotated[str | None, Option(help="Name of the time column.")]
IdColumn = Annotated[str | None, Option(help="Series column of a long table; by default unique_id or item_id.")]
TargetColumn = Annotated[str | None, Option(help="Value column of a long table; by default y or target.")]
Sep = Annotated[str | None, Option(help="Between columns of a text table, such as ; or tab; by default found out.")]
Decimal = Annotated[str | None, Option(help="Decimal mark of a text table, . or ,; by default found out.")]
DayFirst = Annotated[
    bool | None, Option("--dayfirst/--monthfirst", help="How 01/02/2024 is read; by default as other rows tell.")
]
Freq = Annotated[str | None, Option(help="Step, such as B or h, on which absent rows count as missing values.")]
Resample = Annotated[
    str | None, Option(help="Step to which rows at any times are aggregated: 15min, h:sum; mean by default.")
]
MissingCells = Annotated[
    str | None,
    Option("--missing", help="auto: interpolate up to 5% of a column, mask more; mask; interpolate; error."),
]
Transform = Annotated[
    str | None,
    Option(help="Taken from the table, undone for what comes back: none, difference, detrend, seasonal; auto chooses."),
]
Known = Annotated[list[str] | None, Option(help="Column known ahead, such as prices or holidays; repeat for several.")]
Past = Annotated[list[str] | None, Option(help="Column of which only the past is known, no target; repeat.")]
Static = Annotated[list[str] | None, Option(help="Column of a long table that is constant in each series; repeat.")]
Calendar = Annotated[list[str] | None, Option(help="Columns made from the stamps: hour, weekday, year; repeat.")]
Split = Annotated[str | None, Option("--split", help="Fractions or end rows of train, val, test: 0.7,0.1,0.2.")]

app = typer.Typer(help="List, fetch and describe the benchmark data sets.", no_args_is_help=True)


@app.command("ls")
def data_ls(as_json: AsJson = False) -> None:
    """The registry, and which sets are on this machine."""
    from hdt.data import datasets, registry

    rows = [
        {"name": d.name, "rows": d.shape[0], "channels": d.shape[1], "step": d.step, "here": here, "about": d.about}
        for d in registry.REGISTRY.values()
        for here in [not d.sources or datasets.locate(d, check=False) is not None]
    ]
    if as_json:
        return print_json({"datasets": rows})
    headings = ["name", "rows", "channels", "step", "here", "about"]
    cells = [[str(row[h]) if h != "here" else "yes" if row[h] else "no" for h in headings] for row in rows]
    print_table("hdt distill NAME", headings, cells)


@app.command("get")
def data_get(name: Annotated[str, Argument(help="Registry name.")]) -> None:
    """Download a data set (verified) and print where it is."""
    from hdt.data import datasets, registry

    entry = registry.entry(name)
    if not entry.sources:
        return print(f"{entry.name} is embedded")
    print((datasets.locate(entry) or datasets.fetch(entry, DownloadBar()))[0])


@app.command("info")
def data_info(
    data: Annotated[str, Argument(help="Registry name or path.")],
    time_column: TimeColumn = None,
    id_column: IdColumn = None,
    target_column: TargetColumn = None,
    sep: Sep = None,
    decimal: Decimal = None,
    dayfirst: DayFirst = None,
    freq: Freq = None,
    resample: Resample = None,
    known: Known = None,
    past: Past = None,
    static: Static = None,
    calendar: Calendar = None,
    as_json: AsJson = False,
) -> None:
    """Origin, licence, borders and columns of a data set or file."""
    from hdt.data import datasets, registry

    entry = registry.find(data)
    panel = datasets.load(
        data, time_column=time_column, id_column=id_column, target_column=target_column, sep=sep, decimal=decimal,
        dayfirst=dayfirst, freq=freq, resample=resample, known=known, past=past, static=static, calendar=calendar,
        progress=DownloadBar(),
    )  # fmt: skip
    facts: dict[str, Any] = {
        "name": panel.name, "rows": len(panel.values), "channels": panel.channels, "step": str(panel.step),
        "first": str(panel.index[0]), "last": str(panel.index[-1]),
        "borders": "the last windows" if panel.last_windows else list(panel.borders),
        "columns": list(panel.columns), "notices": list(panel.notices),
    }  # fmt: skip
    if panel.covariates:
        own = panel.covariates
        facts["columns"] = list(panel.columns[: own.targets])
        facts |= {"known": list(own.names), "past": list(own.past), "static": list(own.static)}
    if entry:
        facts |= {
            "about": entry.about, "licence": entry.licence, "sources": [source.url for source in entry.sources],
            "context": entry.context, "horizon": entry.horizon, "length": entry.length,
        }  # fmt: skip
    if as_json:
        return print_json(facts)
    for name, value in facts.items():
        print(f"{name:9} {', '.join(map(str, value)) if isinstance(value, list) else value}")


def split_of(text: str) -> list[float]:
    """The three numbers of --split."""
    try:
        return [
            int(part) if part.strip().isdigit() and part.strip() not in "01" else float(part)
            for part in text.split(",")
        ]
    except ValueError:
        raise InputError(f"--split {text}: expected three numbers such as 0.7,0.1,0.2") from None
