"""The channels of a panel, and which of them a student sees: targets, columns of the past, those known ahead."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hdt.data.series import Panel, Part
from hdt.maths.roles import Roles
from hdt.maths.windows import Gappy, Seen
from hdt.run import beside
from hdt.students import STUDENTS
from hdt.system.errors import require


def scaled_part(panel: Panel, part: Part, context: int, horizon: int, gaps: bool = False) -> Float[Tensor, "T C"]:
    """One part in scaled units, float32, with the context before it; refused when it holds no window. With ``gaps``,
    masked cells are NaN. Columns known ahead are the last channels."""
    values = panel.part(part, context=0 if part == "train" else context, dtype=np.float32, gaps=gaps)
    size = context + horizon
    require(
        len(values) >= size,
        f"{panel.name}: the {part} part has {len(values)} rows (context included), fewer than context + "
        f"horizon = {size}; choose another --split",
    )
    if panel.covariates is None:
        return torch.from_numpy(values)
    stop = panel.rows(part).stop
    return torch.from_numpy(np.concatenate([values, beside.flat(panel)[stop - len(values) : stop]], axis=1))


def roles_for(student: str, roles: Roles | None) -> Roles | None:
    """Those of the channels that a student sees; None where all that it sees are targets."""
    if roles is None:
        return None
    kind = STUDENTS[student]
    roles = roles if kind.takes_known else roles._replace(known=0)
    return roles if roles.known or (roles.past and kind.mixes_channels) else None


def cut(series: Seen, student: str, roles: Roles | None) -> Seen:
    """A series [..., C_all] with the channels that a student sees."""
    if roles is None:
        return series
    if isinstance(series, Gappy):
        values, targets = (cut_one(part, student, roles) for part in series[:2])
        return series._replace(values=values, targets=targets)
    return cut_one(series, student, roles)


def cut_one(series: Tensor, student: str, roles: Roles | None) -> Tensor:
    """The same of one tensor."""
    own = roles_for(student, roles)
    if roles is None or (own is not None and own.known):
        return series
    every = roles.within(series.shape[-1])
    return series[..., : every.targets if own is None else every.learned]


def check_plain(panel: Panel) -> None:
    """Refuse a panel that students with quantiles cannot be scored on."""
    require(
        panel.transform == "none",
        f"--quantiles: {panel.name} was transformed (--transform {panel.transform}), and quantiles of what that leaves "
        "are not those of the table; distil it without",
    )
    require(
        panel.covariates is None,
        f"--quantiles: {panel.name} has covariates, which students with quantiles do not read; distil it without",
    )
