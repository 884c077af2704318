"""Test errors of pre-trained networks by gluonts: Moirai's predictor, its rolling windows, its metrics."""

from __future__ import annotations

import contextlib
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from hdt.data.series import Panel
from hdt.evaluation.naive import season_of
from hdt.training.loop import seeded
from hdt.tuning.base import import_moirai

if TYPE_CHECKING:
    from gluonts.torch import PyTorchPredictor
    from uni2ts.model.moirai import MoiraiModule

WINDOWS = 128  # test windows per channel at most, evenly spaced
SAMPLES = 100  # draws per forecast
BATCH = 64
START = pd.Period("2000-01-01", "D")  # gluonts only counts stamps: any frequency that never fails will do


def predictor(module: MoiraiModule, context: int, horizon: int, patch: int, device: torch.device) -> PyTorchPredictor:
    """The gluonts predictor of a network for univariate series."""
    forecast = import_moirai().MoiraiForecast(
        prediction_length=horizon, target_dim=1, feat_dynamic_real_dim=0, past_feat_dynamic_real_dim=0,
        context_length=context, module=module.to(device).eval(), patch_size=patch, num_samples=SAMPLES,
    )  # fmt: skip
    return forecast.create_predictor(batch_size=BATCH, device=str(device))


def entries(values: np.ndarray) -> list[dict[str, Any]]:
    """Columns of ``values`` [T, C] as a gluonts data set."""
    return [{"start": START, "target": column.astype(np.float32), "item_id": n} for n, column in enumerate(values.T)]


def spacing(rows: int, horizon: int, season: int) -> int:
    """Distance of test windows: the smallest that leaves at most ``WINDOWS`` and visits every phase of the season."""
    distance = math.ceil((rows - horizon + 1) / WINDOWS)
    while math.gcd(distance, season) > 1:
        distance += 1
    return distance


def test_data(panel: Panel, horizon: int, season: int) -> Any:
    """Evenly spaced windows of the test part: a gluonts TestData of scaled series, train and validation before them."""
    from gluonts.dataset.split import split

    values = np.concatenate([panel.part("train"), panel.part("val"), panel.part("test")])
    rows = panel.borders[2] - panel.borders[1]
    distance = spacing(rows, horizon, season)
    count = (rows - horizon) // distance + 1
    _, template = split(entries(values), offset=-rows)
    return template.generate_instances(prediction_length=horizon, windows=count, distance=distance)


def score(model: Any, panel: Panel, horizon: int, device: torch.device) -> dict[str, float]:
    """Errors of a gluonts predictor over the windows of :func:`test_data`, in scaled units: ``mse`` and ``mae`` of the
    median, ``mase`` and ``crps`` (mean weighted quantile loss over deciles); ``forecasts`` counts windows × channels.
    The test part is read here.
    """
    from gluonts.ev.metrics import MAE, MASE, MSE, MeanWeightedSumQuantileLoss
    from gluonts.model.evaluation import evaluate_model

    season = season_of(panel) or 1  # without a season MASE compares with the last value
    data = test_data(panel, horizon, season)
    levels = [round(0.1 * n, 1) for n in range(1, 10)]
    metrics = [MSE(forecast_type=0.5), MAE(), MASE(), MeanWeightedSumQuantileLoss(quantile_levels=levels)]
    with seeded(0, device), contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        table = evaluate_model(
            model, test_data=data, metrics=metrics, batch_size=BATCH,
            axis=None, seasonality=season, mask_invalid_label=False,
        )  # fmt: skip
    names = ("mse", "mae", "mase", "crps")
    return {**dict(zip(names, map(float, table.iloc[0]), strict=True)), "forecasts": len(data)}
