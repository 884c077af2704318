from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Ready, make_frame
from sklearn.linear_model import Ridge
from torch import nn

import hdt
from hdt.maths.correlations import Correlations, annealed, correlations, filtered, layer_inputs, running
from hdt.objective import Problem
from hdt.objective.cfm import CFM, CFMOptions
from hdt.students import build

PROBLEM = Problem(context=12, horizon=6, length=48)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def objective(**options: object) -> Ready:
    series = torch.tensor(hdt.load(make_frame()).part("train"), dtype=torch.float64)
    return Ready(CFM(CFMOptions(teacher_epochs=1, **options), PROBLEM), series)  # type: ignore[arg-type]


def test_the_parts_of_dc_are_the_gradient_of_the_linear_task() -> None:
    x, y, weights = noise(30, 5), noise(30, 2, seed=1), noise(5, 2, seed=2).requires_grad_()
    (0.5 * (x @ weights - y).square().sum() / len(x)).backward()
    ffc, flc = filtered("dc", correlations(x, y), 1.0, 0.1, 1)
    assert weights.grad is not None
    torch.testing.assert_close(ffc @ weights.detach() - flc, weights.grad)


def test_the_parts_of_mtt_are_p_gradient_steps() -> None:
    x, y, first, alpha = noise(30, 5), noise(30, 2, seed=1), noise(5, 2, seed=2), 0.05
    own = correlations(x, y)
    weights = first
    for _ in range(7):
        weights = weights - alpha * (own.ffc @ weights - own.flc)
    power, taken = filtered("mtt", own, 1.0, alpha, 7)
    torch.testing.assert_close(power @ first + taken, weights)


def test_kip_is_ridge_regression() -> None:
    x, y, beta = noise(30, 5), noise(30, 2, seed=1), 0.3
    (weights,) = filtered("kip", correlations(x, y), beta, 0.1, 1)
    expected = Ridge(alpha=beta * len(x), fit_intercept=False).fit(x.numpy(), y.numpy()).coef_.T
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_low_filters_weigh_by_eigenvalues_and_high_ones_by_their_inverse() -> None:
    values = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    own = Correlations(torch.diag(values), torch.ones(3, 1, dtype=torch.float64))
    torch.testing.assert_close(filtered("low", own, 0.5, 0.1, 1)[1][:, 0], values)
    torch.testing.assert_close(filtered("high", own, 0.5, 0.1, 1)[1][:, 0], 1 / (values + 0.5))
    torch.testing.assert_close(filtered("cfm", own, 0.5, 0.1, 1), filtered("high", own, 0.5, 0.1, 1))


def test_running_statistics_are_the_mean_of_the_batches() -> None:
    batches = [[Correlations(noise(3, 3, seed=s), noise(3, 2, seed=s + 10))] for s in range(5)]
    past = None
    for count, new in enumerate(batches, start=1):
        past = running(past, new, count)
    assert past is not None
    for i in range(2):
        torch.testing.assert_close(past[0][i], torch.stack([batch[0][i] for batch in batches]).mean(dim=0))


def test_the_curriculum_goes_from_beta_to_nearly_nothing() -> None:
    betas = [annealed(2.0, b, 8) for b in range(8)]
    assert betas[0] == 2.0
    assert betas[4] == pytest.approx(1.0)
    assert betas == sorted(betas, reverse=True)
    assert 0 < betas[-1] < 0.1
    assert annealed(2.0, 0, 1) == 2.0


def test_the_real_windows_themselves_match_perfectly() -> None:
    series = torch.tensor(hdt.load(make_frame()).part("train"), dtype=torch.float64)
    for kind in ("high", "low", "dm", "dc", "mtt", "kip", "cfm"):
        cfm = objective(batches=1, filter=kind)
        _, terms = cfm.loss(series[None], torch.Generator())
        assert terms["correlations"].item() == pytest.approx(0, abs=1e-7), kind
        _, other = cfm.loss(noise(1, 48, 2), torch.Generator())
        assert other["correlations"].item() > 0.1, kind


def test_beta_is_relative_to_the_mean_and_alpha_to_the_largest_eigenvalue_of_the_teachers() -> None:
    """Whatever the scale of a layer; `paper` takes both as they are."""
    x, y = 5 * noise(30, 12), noise(30, 6, seed=1)
    psi, phi = (x.T @ x / 30).numpy(), (x.T @ y / 30).numpy()
    for paper in (False, True):
        cfm = objective(filter="kip", beta=0.3, paper=paper)
        teacher = cfm.real[0].ffc.numpy()
        beta = 0.3 if paper else 0.3 * np.trace(teacher) / 12
        expected = np.linalg.solve(psi + beta * np.eye(12), phi)
        (found,) = cfm.filtered(correlations(x, y), cfm.eigenvalues[0], 0.3)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8)
        cfm = objective(filter="mtt", alpha=0.01, filter_steps=2, paper=paper)
        alpha = 0.01 if paper else 0.01 / np.linalg.eigvalsh(teacher)[-1]
        decay = np.eye(12) - alpha * psi
        power, weights = cfm.filtered(correlations(x, y), cfm.eigenvalues[0], 1.0)
        np.testing.assert_allclose(power.numpy(), decay @ decay, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(weights.numpy(), alpha * phi + decay @ (alpha * phi), rtol=1e-8, atol=1e-12)


def test_past_batches_are_not_differentiated() -> None:
    """Two series, a batch each: the first one's gradient cannot depend on the second, which comes after it."""
    cfm, first = objective(batches=2, match_weight=10.0), noise(1, 48, 2)
    gradients = []
    for seed in (1, 2):
        synthetic = torch.cat([first, noise(1, 48, 2, seed=seed)]).requires_grad_()
        cfm.loss(synthetic, torch.Generator())[0].backward()
        assert synthetic.grad is not None
        gradients.append(synthetic.grad)
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert not torch.allclose(gradients[0][1], gradients[1][1])


def test_real_correlations_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = objective().real
    monkeypatch.setattr("hdt.objective.cfm.REAL_BATCH", 7)
    for first, second in zip(whole, objective().real, strict=True):
        torch.testing.assert_close(first.ffc, second.ffc)
        torch.testing.assert_close(first.flc, second.flc)


def test_the_teacher_stays_as_it_is_and_the_series_gets_the_gradient() -> None:
    cfm = objective()
    before = {name: tensor.clone() for name, tensor in cfm.weights.items()}
    series = noise(2, 48, 2).requires_grad_()
    loss, terms = cfm.loss(series, torch.Generator())
    loss.backward()
    assert series.grad is not None and (series.grad != 0).all()
    assert loss.item() == pytest.approx(terms["task"].item() + 0.1 * terms["correlations"].item())
    for name, tensor in before.items():
        assert torch.equal(tensor, cfm.weights[name])


def test_the_loss_has_the_gradient_it_claims() -> None:
    cfm = objective(batches=1)
    series = noise(1, 20, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: cfm.loss(s, torch.Generator())[0], (series,))


@pytest.mark.parametrize("student", ["dlinear", "itransformer", "xpatch"])
@pytest.mark.parametrize("labels", ["horizon", "teacher"])
def test_features_of_every_student_can_be_matched(student: str, labels: str) -> None:
    series = torch.tensor(hdt.load(make_frame()).part("train"), dtype=torch.float32)
    options = CFMOptions(teacher_epochs=1, labels=labels)  # type: ignore[arg-type]
    cfm = Ready(CFM(options, Problem(16, 8, 48, student)), series)
    assert all(c.flc.shape[1] in (8, 16) for c in cfm.real)
    loss, _ = cfm.loss(series[None, :48], torch.Generator())
    assert loss.isfinite()


def test_inputs_of_layers_are_rows() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    x = torch.randn(4, 2, 10, generator=torch.Generator().manual_seed(0))
    inputs, output = layer_inputs(model, dict(model.named_parameters()), x)
    assert [tuple(i.shape) for i in inputs] == [(4, 2), (4, 24)]
    torch.testing.assert_close(inputs[0], x.mean(dim=2))
    torch.testing.assert_close(output, model(x))
    dlinear = build("dlinear", 12, 6, 2, seed=0)
    inputs, _ = layer_inputs(dlinear, dict(dlinear.named_parameters()), torch.randn(4, 12, 2))
    assert [tuple(i.shape) for i in inputs] == [(8, 12), (8, 12)]
