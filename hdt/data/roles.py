"""Panels with covariates: which columns of a table are targets, which are known ahead, past only, or static."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hdt.data.columns import find_column, listed, series_and_target
from hdt.data.covariates import Covariates, calendar, calendar_names
from hdt.data.frames import as_frame, read_frame
from hdt.data.series import Panel
from hdt.system.errors import InputError, require

ROLES = ("known", "past", "static", "calendar")
Make = Callable[[pd.DataFrame], Panel]


def names_of(role: str, given: Any) -> list[str]:
    """The columns of a role, one or several; refused when they are no names, or one is there twice."""
    listed_ = [given] if isinstance(given, str) else given
    fits = isinstance(listed_, Sequence) and all(isinstance(name, str) for name in listed_)
    require(fits, f"{role}={given!r}: expected names of columns")
    twice = [name for n, name in enumerate(listed_) if name in listed_[:n]]
    require(not twice, f"{role}: {twice[0] if twice else ''!r} is there twice; name it once")
    return list(listed_)


def with_roles(data: Any, name: str, make: Make, roles: dict[str, list[str]], **reading: Any) -> Panel:
    """The panel that ``make`` makes of a table, with its columns in their roles.

    Of a wide table covariates are shared by all series; of a long one each series has its own, unless they are equal.
    Raises :class:`InputError` for a column that is not there or has two roles, for a known one that has gaps, for one
    that never changes in the training part, and when no target is left.
    """
    known, past, static, cycles = (roles.get(role, []) for role in ROLES)
    given = [*known, *past, *static]
    twice = [column for n, column in enumerate(given) if column in given[:n]]
    require(not twice, f"{name}: column {twice[0] if twice else ''!r} has two roles; give it one")
    frame = as_frame(data, name)
    if isinstance(frame.index, pd.MultiIndex):
        frame = frame.reset_index()
    long = series_and_target(frame, reading.get("id_column"), reading.get("target_column"), name)
    if long is None:
        require(not static, f"{name}: --static is for long tables; the series of a wide one are its columns")
        panel, values = _wide(make(frame), known, past, name)
    else:
        labels = {column: find_column(frame, column, name) for column in given}
        for column, label in labels.items():
            what = "the series" if label == long[0] else "the target"
            require(label not in long, f"{name}: {column!r} holds {what}; it cannot be a covariate, too")
        panel, values = _long(frame, labels, known, past, name, make, reading)
    targets = panel.channels - len(past) * (1 if long is None else values.shape[1])
    shared = values.shape[2] == 0 or bool((values == values[:, :1]).all())
    values = values[:, :1] if shared else values
    stamps = np.repeat(calendar(panel.index, cycles, name)[:, None], values.shape[1], axis=1)
    taken = set(panel.columns) & set(calendar_names(cycles)) | set(known) & set(calendar_names(cycles))
    require(not taken, f"{name}: columns {listed(taken)} are called as those of the calendar; rename them")
    found = Covariates(
        targets, np.concatenate([stamps, values], axis=2), (*calendar_names(cycles), *known), tuple(past),
        tuple(cycles), _static(frame, long, static, panel, name) if long else {}, 1 if long is None else targets,
    )  # fmt: skip
    _check(found, panel, name)
    return replace(panel, covariates=found)


def _wide(whole: Panel, known: list[str], past: list[str], name: str) -> tuple[Panel, np.ndarray]:
    """The panel without its known columns, the past ones last, and the known ones [T, 1, K]."""
    for column in (*known, *past):
        find_column(pd.DataFrame(columns=list(whole.columns)), column, name)
    place = {column: n for n, column in enumerate(whole.columns)}
    targets = [n for column, n in place.items() if column not in {*known, *past}]
    require(len(targets) > 0, f"{name}: no target is left, for every column is a covariate; name fewer")
    kept = [*targets, *(place[column] for column in past)]
    labels = whole.layout.labels and [whole.layout.labels[n] for n in kept]
    panel = replace(
        whole, values=np.ascontiguousarray(np.asarray(whole.values)[:, kept]),
        columns=tuple(whole.columns[n] for n in kept), layout=replace(whole.layout, labels=labels),
    )  # fmt: skip
    return panel, np.asarray(whole.values)[:, [place[column] for column in known]][:, None].astype(np.float64)


def _long(
    frame: pd.DataFrame, labels: dict[str, Any], known: list[str], past: list[str], name: str, make: Make,
    reading: dict[str, Any],
) -> tuple[Panel, np.ndarray]:  # fmt: skip
    """The same of a long table, read once for every column: known ones [T, C, K], past ones C columns each."""
    panel = make(frame.drop(columns=list(labels.values())))
    require(not panel.unequal, f"{name}: its series differ in length; covariates need series that share their stamps")

    def column(wanted: str) -> np.ndarray:
        others = [label for other, label in labels.items() if other != wanted]
        target = series_and_target(frame, reading.get("id_column"), reading.get("target_column"), name)
        rest = frame.drop(columns=[*others, target[1]] if target else others)
        table = read_frame(rest, f"{name}, {wanted}", **{**reading, "target_column": wanted})
        return table.values.astype(np.float64)

    empty = np.empty((len(panel.values), panel.channels, 0))
    values = np.stack([column(wanted) for wanted in known], axis=2) if known else empty
    after = [column(wanted) for wanted in past]
    names = [f"{series}/{wanted}" for wanted in past for series in panel.columns]
    together = np.concatenate([np.asarray(panel.values), *after], axis=1)
    return replace(panel, values=together, columns=(*panel.columns, *names)), values


def _static(
    frame: pd.DataFrame, long: tuple[Any, Any], static: list[str], panel: Panel, name: str
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for column in static:
        own = frame[[long[0], find_column(frame, column, name)]].drop_duplicates()
        require(not own.iloc[:, 1].isna().any(), f"{name}: static column {column!r} has missing values; fill them")
        changing = own.iloc[:, 0].duplicated()
        if changing.any():
            series = own.iloc[:, 0][changing].iloc[0]
            raise InputError(f"{name}: column {column!r} is not static, it changes within series {series!r}")
        plain = [value.item() if isinstance(value, np.generic) else value for value in own.iloc[:, 1]]
        found[column] = [value if isinstance(value, int | float | str) else str(value) for value in plain]
    return found


def _check(found: Covariates, panel: Panel, name: str) -> None:
    """Refuse known columns with gaps, and covariates that tell nothing in the training part."""
    rows = panel.borders[0]
    for k, column in enumerate(found.names):
        own = found.values[:, :, k]
        missing = np.isnan(own)
        if missing.any():
            row = int(missing.any(axis=1).argmax())
            raise InputError(
                f"{name}: column {column!r} is to be known ahead and has {int(missing.sum())} missing values (first at "
                f"row {row}); fill them, for a covariate is not guessed"
            )
        require(
            own[:rows].min() < own[:rows].max(),
            f"{name}: covariate {column!r} never changes in the training part, so it tells nothing; leave it out",
        )
    train = np.asarray(panel.values)[:rows, found.targets :]
    for n, column in enumerate(panel.columns[found.targets :]):
        seen = train[:, n][~np.isnan(train[:, n])]
        if not len(seen) or seen.min() == seen.max():
            raise InputError(
                f"{name}: covariate {column!r} never changes in the training part, so it tells nothing; leave it out"
            )
