"""Fine-tuning: forecasters trained, or trained further, on distilled or on real data.

``forecaster`` what all of them share: a frame in, a frame out, a folder · ``student`` DLinear, iTransformer, xPatch ·
``pretrained`` networks that were pre-trained, from ``base`` (where they come from), ``loop`` (their batches) and
``score`` (gluonts) · ``moirai``, with ``tokens`` (what it reads) and ``crps`` (validation) · ``quantiles``
with ``chronos`` (Chronos-2) and ``timesfm`` (TimesFM 2.5) · ``benchmark`` what distilled data is worth beside all
of it.
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
from hdt.tuning.base import kind_of
from hdt.tuning.forecaster import MODELS, PRETRAINED, Forecaster, class_of

__all__ = ["Forecaster", "finetune"]

NO_BASE = (
    "no base given; name a folder with a Moirai, Chronos-2 or TimesFM 2.5 checkpoint, or a hub id such as "
    "Salesforce/moirai-1.1-R-small"
)


def finetune(
    distilled: Distilled | str | Path,
    *,
    model: str | None = None,
    base: str | Path | None = None,
    data: str | Path | pd.DataFrame | Panel | None = None,
    real: bool = False,
    **settings: Any,
) -> Forecaster:
    """Train a forecaster on a distilled series; it forecasts frames.

    ``distilled`` may be the folder of a run. Without ``model`` the pre-trained network in ``base`` is fine-tuned,
    Moirai, Chronos-2 or TimesFM 2.5: a folder, a Hugging Face hub id, ``chronos-2``, ``timesfm-2.5``, or
    ``random:small|base|large``. A student (``dlinear`` and others) is trained from scratch or further from the
    forecaster folder ``base``. With ``real`` it trains on the real training part instead. Validation, which chooses
    learning rate and stopping, is real: the data behind the run, or ``data`` when that is not at hand. ``settings``:
    ``context``, ``horizon``, ``steps``, ``lr``, ``batch``, ``seed``, ``device``, ``precision`` (float32, bf16),
    ``clip``, ``checkpoint``, ``watch``; of pre-trained ones ``pattern``, ``patch``, ``noise`` and ``mix``, see
    :func:`hdt.tuning.pretrained.tune_values`; of students ``compile``, see
    :func:`hdt.tuning.student.tune_student`. Raises :class:`hdt.system.errors.InputError`.
    """
    from hdt.run.source import real_data, same_length

    if model is None:
        require(base is not None, NO_BASE)
        model = kind_of(str(base))
    require(model in MODELS, f"unknown model {model!r}; known: {', '.join(MODELS)}")
    if not isinstance(distilled, Distilled):
        distilled = Distilled.load(distilled)
    seed = settings.get("seed", 0)
    require(isinstance(seed, int) and 0 <= seed <= LARGEST_SEED, f"seed={seed}: expected 0 to {LARGEST_SEED:,}")
    panel = same_length(real_data(distilled, data), "train", "val")
    if model not in PRETRAINED:
        from hdt.tuning.student import tune_student

        _check(settings, tune_student, model)
        return tune_student(distilled, model=model, base=base, real=real, panel=panel, **settings)
    from hdt.tuning.pretrained import tune_pretrained, tune_values

    _check(settings, tune_values, model)
    require(base is not None, NO_BASE)
    return tune_pretrained(class_of(model), distilled, base=base, real=real, panel=panel, **settings)


def _check(settings: dict[str, Any], function: Callable[..., Forecaster], model: str) -> None:
    known = set(signature(function).parameters)
    unknown = sorted(set(settings) - known)
    require(not unknown, f"{', '.join(unknown)}: no setting of {model}")
