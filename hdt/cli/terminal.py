"""What people and machines see: tables, JSON, progress. Data on stdout, the rest on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

if TYPE_CHECKING:
    import numpy as np

    from hdt.run.distilled import Distilled

SCHEMA_VERSION = 1
BLOCKS, SPARKS = "▁▂▃▄▅▆▇█", 64  # of a line, and how many at most
SKETCHED, LABEL = 4, 12  # channels, and letters of their names
WIDE = 200  # columns of a table that no terminal shows: wider than any of ours


def local_path(text: str) -> Path:
    """A path as a flag names it; addresses are refused as they were typed, before a path makes ``https:/`` of them."""
    if "://" in text:
        raise BadParameter(f"{text}: expected a path on this machine, not an address")
    return Path(text)


AsJson = Annotated[bool, Option("--json", help="Print one JSON object.")]
Data = Annotated[str | None, Option("--data", help="Where the real data is, if not where run.json says.")]
Device = Annotated[str, Option(help="auto, cpu or cuda.")]
Run = Annotated[Path, Argument(help="A folder written by 'hdt distill'.", show_default=False, parser=local_path)]


def checkpoint_beside(out: Path) -> Path:
    """The hidden file from which the command that writes ``out`` goes on after an interruption."""
    return out.with_name(f".{out.name}.checkpoint")


def say(message: str) -> None:
    """A message for the person, on stderr."""
    print(message, file=sys.stderr)


def print_json(fields: dict[str, Any]) -> None:
    """One JSON object with its ``schema_version``."""
    print(json.dumps({"schema_version": SCHEMA_VERSION, **fields}, allow_nan=False))


def print_settings(fields: dict[str, Any]) -> None:
    """Nested settings as YAML."""
    import yaml

    print(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), end="")


def print_summary(distilled: Distilled, out: Path) -> None:
    """What a distillation did, on one screen, and what to do next."""
    from hdt.run.records import PAGE

    info = distilled.info
    settings = info.settings
    synthetic = f"{settings.length} × {len(distilled.columns)}" + (
        f" × {len(distilled.values)}" if len(distilled.values) > 1 else ""
    )
    values = {**settings.options, **info.chosen}
    shown = [name for name in ("k", "lam") if name in values] + ["individual"] * bool(values.get("individual"))
    options = "".join(f", {name} {values[name]:g}" for name in shown)
    memory = "" if info.peak_rss_mb is None else f", peak memory {info.peak_rss_mb:.0f} MB"
    print(f"{info.data.name} by {settings.method}{options}, seed {settings.seed}")
    print(f"  {info.data.training} of training values → {synthetic}")
    print(f"  {info.floats:,} stored numbers, {info.compression:.0f}× fewer")
    print(f"  {info.seconds:.1f} s{memory}, {info.device}")
    print(f"  circular autocovariance gap {info.acf_gap:.3f} ≤ PSD gap {info.psd_gap:.3f} (scaled units, channel mean)")
    print(f"  nearest {info.nearest_of} sub-series: {info.distance.nearest:.2f} standard deviations away")
    if sys.stdout.isatty():
        sketch(distilled)
    print(f"  {out / PAGE}")
    print(f"next: hdt evaluate {out}")


def sketch(distilled: Distilled) -> None:
    """The first sequence of the first channels as lines of blocks, where the terminal knows these."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return
    names = [name[:LABEL] for name in distilled.columns[:SKETCHED]]
    width = max(map(len, names))
    for name, series in zip(names, distilled.values[0].T, strict=False):
        print(f"  {name:<{width}}  {sparkline(series)}")


def sparkline(series: np.ndarray) -> str:
    """A series [M] in as many blocks as fit, each the mean of its steps, from the lowest to the highest."""
    import numpy as np

    means = np.array([part.mean() for part in np.array_split(series, min(SPARKS, len(series)))])
    low, high = means.min(), means.max()
    heights = np.rint((means - low) / (high - low or 1) * (len(BLOCKS) - 1)).astype(int)
    return "".join(BLOCKS[height] for height in heights)


def print_table(title: str, headings: list[str], cells: list[list[str]]) -> None:
    """A plain table; columns of numbers to the right. Never cut when the output is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading, column in zip(headings, zip(*cells, strict=True), strict=True):
        numeric = all(cell[:1].isdigit() for cell in column)
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=not sys.stdout.isatty())
    for row in cells:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def progress_bar() -> Any:
    """A rich progress display on stderr that leaves no trace; silent when stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def resumable(place: str) -> Iterator[None]:
    """Says where the same command would go on when the work inside is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"note: the same command goes on from {place}")
        raise


class DownloadBar:
    """Shows a download the way pooch reports it; silent until one starts."""

    def __init__(self) -> None:
        self.total = 0
        self.bar: Any = None

    def update(self, amount: int) -> None:
        if self.bar is None:
            self.bar = progress_bar()
            self.bar.start()
            self.task = self.bar.add_task("downloading", total=self.total or None)
        self.bar.advance(self.task, amount)

    def reset(self) -> None:
        if self.bar is not None:
            self.bar.reset(self.task)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
