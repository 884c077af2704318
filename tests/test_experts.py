from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_students import noisy_sine

from hdt.maths.windows import windows
from hdt.students import build, flatten
from hdt.system import checkpoint
from hdt.training.experts import Experts, Training, experts, train

L, H = 6, 3
TRAINING = Training(trajectories=2, epochs=3, lr=0.05, momentum=0.9, batch=8)


def decomposed(contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seasonal part and trend of contexts [B, L, C]: the mean of 25 steps, edge values repeated."""
    padded = np.pad(contexts, ((0, 0), (12, 12), (0, 0)), mode="edge")
    trend = np.stack([padded[:, t : t + 25].mean(axis=1) for t in range(contexts.shape[1])], axis=1)
    return contexts - trend, trend


def dlinear_forecast(weights: np.ndarray, contexts: np.ndarray, horizon: int = H) -> np.ndarray:
    """DLinear's forecast [B, H, C] at flat weights: two maps, each a matrix [H, L] and its bias."""
    maps = weights.reshape(2, -1)
    forecast = np.zeros(())
    for flat, part in zip(maps, decomposed(contexts), strict=True):
        matrix, bias = flat[:-horizon].reshape(horizon, -1), flat[-horizon:]
        forecast = forecast + np.einsum("hl,blc->bhc", matrix, part) + bias[:, None]
    return forecast


def dlinear_gradient(weights: np.ndarray, batch: np.ndarray, horizon: int = H) -> np.ndarray:
    """Gradient of the mean squared error of windows [B, L + H, C]: ∂/∂W = 2/n Σ r xᵀ, ∂/∂b = 2/n Σ r."""
    contexts, truth = batch[:, :-horizon], batch[:, -horizon:]
    residual = dlinear_forecast(weights, contexts, horizon) - truth
    parts = decomposed(contexts)
    pieces = [(np.einsum("bhc,blc->hl", residual, part), residual.sum(axis=(0, 2))) for part in parts]
    return 2 / residual.size * np.concatenate([array.ravel() for pair in pieces for array in pair])


def get(folder: Path, **changes: object) -> Experts:
    usual = {"backbone": "dlinear", "context": L, "horizon": H, "series": noisy_sine(30), "training": TRAINING}
    return experts(**{**usual, "folder": folder, **changes})


def refuse(*_: object) -> torch.Tensor:
    raise AssertionError("trained instead of reading the cache")


def test_checkpoints_are_every_experts_weights_from_the_initialisation_on(tmp_path: Path) -> None:
    checkpoints, saved_seconds = get(tmp_path)
    assert checkpoints.shape == (2, 4, 2 * (L * H + H)) and saved_seconds == 0
    for seed in range(2):
        assert torch.equal(checkpoints[seed, 0], flatten(build("dlinear", L, H, 2, seed)))
    every = windows(noisy_sine(30), L, H).numpy()
    residuals = [dlinear_forecast(weights, every[:, :L]) - every[:, L:] for weights in checkpoints[0].numpy()]
    errors = [np.square(residual).mean() for residual in residuals]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.8 * errors[0]


def test_epochs_of_one_batch_are_steps_with_momentum_by_hand() -> None:
    """θ₁ = θ₀ − α·g₀ and θ₂ = θ₁ − α·(g₁ + μ·g₀), g the gradient on all windows."""
    series, rate, momentum = noisy_sine(20).double(), 0.05, 0.9
    every = windows(series, L, H).numpy()
    found = train("dlinear", L, H, series, Training(1, 2, rate, momentum, 100), seed=3).numpy()
    first = dlinear_gradient(found[0], every)
    np.testing.assert_allclose(found[1], found[0] - rate * first, atol=1e-14)
    second = dlinear_gradient(found[1], every) + momentum * first
    np.testing.assert_allclose(found[2], found[1] - rate * second, atol=1e-14)


def test_an_epoch_of_small_batches_sees_every_window_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values tell the step: the first values of all batches together are those of the windows 0..11."""
    series, seen = torch.arange(20.0)[:, None] / 20, []
    original = torch.nn.functional.mse_loss
    monkeypatch.setattr(
        "hdt.training.experts.functional.mse_loss", lambda a, b: seen.append(b[:, 0, 0]) or original(a, b)
    )
    train("dlinear", L, H, series, Training(1, 1, 0.01, 0.9, 5), seed=0)
    assert [len(batch) for batch in seen] == [5, 5, 2]
    order = (20 * torch.cat(seen) - L).round().long().tolist()
    assert sorted(order) == list(range(12)) != order


@pytest.mark.parametrize(
    "backbone",
    ["dlinear", "itransformer"],
)
def test_equal_seeds_train_equal_experts(backbone: str) -> None:
    quick, before = TRAINING._replace(epochs=1, batch=30), torch.get_rng_state()
    first, second, third = (train(backbone, L, H, noisy_sine(30), quick, seed) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_second_time_experts_and_their_seconds_come_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = get(tmp_path / "new" / "folder")
    monkeypatch.setattr("hdt.training.experts.train", refuse)
    second = get(tmp_path / "new" / "folder")
    assert torch.equal(second.checkpoints, first.checkpoints)
    (file,) = (tmp_path / "new" / "folder").iterdir()
    tensors, facts = checkpoint.load(file)
    assert second.saved_seconds == checkpoint.unpack(facts["training"], tensors)["seconds"] > 0


CHANGED = {
    "context": {"context": L + 1},
    "horizon": {"horizon": H - 1},
    "backbone": {"backbone": "itransformer"},
    "one value": {"series": noisy_sine(30) + 1e-6 * torch.eye(30, 2)},
    "precision": {"series": noisy_sine(30).double()},
    "shape": {"series": noisy_sine(30).reshape(60, 1)},
    "trajectories": {"training": TRAINING._replace(trajectories=3)},
    "epochs": {"training": TRAINING._replace(epochs=4)},
    "lr": {"training": TRAINING._replace(lr=0.051)},
    "momentum": {"training": TRAINING._replace(momentum=0.8)},
    "batch": {"training": TRAINING._replace(batch=9)},
}


@pytest.mark.parametrize("change", CHANGED)
def test_other_data_and_settings_have_experts_of_their_own(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(tmp_path)
    monkeypatch.setattr("hdt.training.experts.train", refuse)
    get(tmp_path)
    with pytest.raises(AssertionError, match="trained instead"):
        get(tmp_path, **CHANGED[change])


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "no metadata", "no seconds", "no checkpoints", "folder"])
def test_a_damaged_file_is_trained_again(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get(tmp_path)
    (file,) = tmp_path.iterdir()
    content, tensors = file.read_bytes(), {"checkpoints": first.checkpoints}
    if damage in ("empty", "text", "cut"):
        file.write_bytes({"empty": b"", "text": b"<html>not found</html>", "cut": content[:-8]}[damage])
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        metadata = {"no metadata": None, "no seconds": {"format": "pt"}, "no checkpoints": {"seconds": "1"}}[damage]
        save_file({"other": first.checkpoints} if damage == "no checkpoints" else tensors, file, metadata)
    again = get(tmp_path)
    assert torch.equal(again.checkpoints, first.checkpoints) and again.saved_seconds == 0
    if damage != "folder":
        monkeypatch.setattr("hdt.training.experts.train", refuse)
        assert get(tmp_path).saved_seconds > 0


def test_a_cache_below_a_file_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    first, second = (get(tmp_path / "file" / "cache") for _ in range(2))
    assert torch.equal(first.checkpoints, second.checkpoints) and second.saved_seconds == 0


def test_a_full_or_read_only_cache_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that root may not write to are rare, so the file is sent into one that does not exist."""
    monkeypatch.setattr(
        "hdt.system.checkpoint.save_file", lambda tensors, _, **more: save_file(tensors, tmp_path / "no/x", **more)
    )
    assert get(tmp_path).saved_seconds == 0
