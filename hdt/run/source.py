"""The real data behind a run: found again, and known to be the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hdt.data import datasets
from hdt.data.registry import find
from hdt.data.series import Panel
from hdt.run.records import RUN
from hdt.run.synthetic import Synthetic
from hdt.system.errors import InputError, require


def real_data(distilled: Synthetic, data: Any = None) -> Panel:
    """The panel behind a run: the one it holds, or ``data``, or what run.json names, loaded alike; of series of unequal
    length, those that its windows fit."""
    settings = distilled.info.settings
    return _panel(distilled, data).for_windows(settings.context, settings.horizon)


def _panel(distilled: Synthetic, data: Any) -> Panel:
    info = distilled.info.data
    if data is None and distilled.panel is not None:
        return distilled.panel
    if isinstance(data, Panel):
        return data
    source = info.source if data is None else data
    if source is None:
        raise InputError("this run was distilled from a frame in memory; give the data with --data")
    if data is None and find(source) is None and not Path(source).exists():
        raise InputError(f"{source}: not found from this folder, and this run was made from it; give it with --data")
    try:
        return datasets.load(source, **info.load_options)
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{RUN}: data.load_options {info.load_options} cannot be used ({error})") from None


def same_data(distilled: Synthetic, panel: Panel) -> None:
    """Refuse a panel whose training part is not the one that a run was made from."""
    require(
        panel.train_sha256 == distilled.info.data.train_sha256,
        f"{panel.name}: its training part differs from the one this run was made from ({distilled.info.data.name}); "
        "give the same data, split and missing-value policy",
    )


def same_length(panel: Panel) -> Panel:
    """The panel, refused when its series differ in length, for what needs one time for all."""
    require(
        not panel.unequal,
        f"{panel.name}: its series differ in length, and fine-tuning takes only series that share their stamps; "
        "hdt evaluate trains students on them",
    )
    return panel
