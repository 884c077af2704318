"""Fine-tuning: forecasters trained, or trained further, on distilled or on real data.

``forecaster`` what all of them share: a frame in, a frame out, a folder · ``student`` DLinear, iTransformer, xPatch ·
``moirai`` Moirai, from ``base`` (where its network comes from), ``tokens`` (what it reads), ``loop`` (its loss and its
batches), ``crps`` (validation), ``residuals`` (noise that distilled series lack) and
``score`` (gluonts) · ``benchmark`` what distilled data is worth beside all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd

from hdt.data.series import Panel
from hdt.run.distilled import Distilled
from hdt.system.errors import require
from hdt.system.options import LARGEST_SEED
from hdt.tuning.forecaster import MODELS, Forecaster

__all__ = ["Forecaster", "finetune"]


def finetune(
    distilled: Distilled | str | Path,
    *,
    model: str = "moirai",
    base: str | Path | None = None,
    data: str | Path | pd.DataFrame | Panel | None = None,
    real: bool = False,
    **settings: Any,
) -> Forecaster:
    """Train a forecaster on a distilled series; it forecasts frames.

    ``distilled`` may be the folder of a run. ``model`` is ``moirai``, fine-tuned from ``base`` (a folder, a Hugging
    Face hub id, or ``random:small|base|large``), or a student (``dlinear`` and others), trained
    from scratch or further from the forecaster folder ``base``. With ``real`` it trains on the real training
    part instead. Validation, which chooses learning rate and stopping, is real: the data behind the run, or ``data``
    when that is not at hand. ``settings``: ``context``, ``horizon``, ``steps``, ``lr``, ``batch``, ``seed``,
    ``device``, ``precision`` (float32, bf16), ``clip``, ``checkpoint``, ``watch``; of Moirai ``pattern``, ``patch``,
    ``noise`` and ``mix``, see :func:`hdt.tuning.moirai.tune_moirai`; of students ``compile``, see
    :func:`hdt.tuning.student.tune_student`. Raises :class:`hdt.system.errors.InputError`.
    """
    from hdt.run.source import real_data, same_length

    require(model in MODELS, f"unknown model {model!r}; known: {', '.join(MODELS)}")
    if not isinstance(distilled, Distilled):
        distilled = Distilled.load(distilled)
    seed = settings.get("seed", 0)
    require(isinstance(seed, int) and 0 <= seed <= LARGEST_SEED, f"seed={seed}: expected 0 to {LARGEST_SEED:,}")
    panel = same_length(real_data(distilled, data))
    if model != "moirai":
        from hdt.tuning.student import tune_student

        _check(settings, tune_student, model)
        return tune_student(distilled, model=model, base=base, real=real, panel=panel, **settings)
    from hdt.tuning.moirai import tune_moirai, tune_values

    _check(settings, tune_values, model)
    require(
        base is not None,
        "no base given; name a folder with a Moirai checkpoint, or a hub id such as Salesforce/moirai-1.1-R-small",
    )
    assert base is not None
    return tune_moirai(distilled, base=base, real=real, panel=panel, **settings)


def _check(settings: dict[str, Any], function: Callable[..., Forecaster], model: str) -> None:
    known = set(signature(function).parameters)
    unknown = sorted(set(settings) - known)
    require(not unknown, f"{', '.join(unknown)}: no setting of {model}")
