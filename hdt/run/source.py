"""The real data behind a run: found again, and known to be the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hdt.data import datasets
from hdt.data.registry import find
from hdt.data.series import Panel, Part
from hdt.data.survey import sha256
from hdt.run.records import RUN
from hdt.run.synthetic import Synthetic
from hdt.system.errors import InputError, require


def real_data(distilled: Synthetic, data: Any = None) -> Panel:
    """The panel behind a run: the one it holds, or ``data``, or what run.json names, loaded alike; of series of unequal
    length, those that its windows fit."""
    settings = distilled.info.settings
    panel = _panel(distilled, data).for_windows(settings.context, settings.horizon)
    if distilled.info.data.parts:  # whose values are in the scale of the first
        panel = replace(panel, fixed=distilled.scaler)
    return panel


def _panel(distilled: Synthetic, data: Any) -> Panel:
    info = distilled.info.data
    if data is None and distilled.panel is not None:
        return distilled.panel
    if isinstance(data, Panel):
        return data
    require(
        data is not None or not info.parts,
        f"this run was updated, and has seen {info.rows:,} rows in {len(info.parts)} parts; give one table with all of "
        "them and what follows with --data",
    )
    source = info.source if data is None else data
    if source is None:
        raise InputError("this run was distilled from a frame in memory; give the data with --data")
    if data is None and find(source) is None and not Path(source).exists():
        raise InputError(f"{source}: not found from this folder, and this run was made from it; give it with --data")
    try:
        if info.parts:
            return _followed(datasets.load(source, **{**info.load_options, "split": (1.0, 0.0, 0.0)}), info.rows)
        return datasets.load(source, **info.load_options)
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{RUN}: data.load_options {info.load_options} cannot be used ({error})") from None


def _followed(panel: Panel, rows: int) -> Panel:
    """The panel with so many training rows; a third of those that follow validates, the others test."""
    total = len(panel.values)
    require(total >= rows, f"{panel.name}: {total:,} rows are fewer than the {rows:,} that this run has seen")
    return replace(panel, borders=(rows, rows + (total - rows) // 3, total))


def same_data(distilled: Synthetic, panel: Panel) -> None:
    """Refuse a panel whose training part is not the one that a run was made from."""
    info = distilled.info.data
    if distilled.info.privacy is not None:  # which has no fingerprint of the values
        same = panel.borders == info.borders and panel.channels == len(info.columns)
        require(same, f"{panel.name}: its shape is not that of the data that this run was made from ({info.name})")
        return
    ends = np.cumsum([part.rows for part in info.parts]).tolist()
    if ends and panel.borders[0] == ends[-1]:
        train = panel.original("train")
        found = [sha256(train[end - part.rows : end]) for end, part in zip(ends, info.parts, strict=True)]
        same = found == [part.sha256 for part in info.parts]
    else:
        same = panel.train_sha256 == info.train_sha256
    own, beside = info.covariates, panel.covariates
    told = ([], []) if own is None else (own.known, own.past)
    found_roles = ([], []) if beside is None else (list(beside.names), list(beside.past))
    require(
        told == found_roles,
        f"{panel.name}: this run has the covariates {told[0] + told[1]}, and these data "
        f"{found_roles[0] + found_roles[1]}; give a table or a path, which is read as the run was, or load it with the "
        "same roles",
    )
    require(
        same,
        f"{panel.name}: its training part differs from the one this run was made from ({info.name}); "
        "give the same data, split and missing-value policy",
    )


def same_length(panel: Panel, *parts: Part) -> Panel:
    """The panel, refused when its series differ in length, or these parts have gaps, for what takes neither."""
    require(
        not panel.unequal,
        f"{panel.name}: its series differ in length, and fine-tuning takes only series that share their stamps; "
        "hdt evaluate trains students on them",
    )
    require(
        panel.transform == "none",
        f"{panel.name}: its table was transformed ({panel.transform}), and fine-tuning takes tables as they are; hdt "
        "evaluate trains students on it",
    )
    require(
        panel.covariates is None,
        f"{panel.name}: fine-tuning takes no covariates; hdt evaluate trains students on them, and data that is "
        "distilled without --known, --past, --static and --calendar can be fine-tuned on",
    )
    require(
        not panel.gappy(*parts),
        f"{panel.name}: missing values are masked, and fine-tuning would be scored on what fills them; hdt evaluate "
        "leaves them out, and data that is distilled with --missing interpolate takes them as if observed",
    )
    return panel
