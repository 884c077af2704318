"""Errors of ridge regressions on windows held out, and their derivatives with respect to penalties, in closed form."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths.moments import Moments
from hdt.system.errors import InputError
from hdt.system.machine import one_thread


def hypergradients(
    fit: Moments, held: Moments, penalties: Float[Tensor, "P D"], member: Float[Tensor, "D G"]
) -> tuple[Float[Tensor, " P"], Float[Tensor, "P G"]]:
    """For each row d of penalties the squared error on windows held out, tr(WᵀAW) − 2 tr(WᵀB) + c, of the ridge
    regression W = K⁻¹b on others, K = a + diag(d), and by implicit differentiation its derivatives with respect to the
    logarithms of the penalties of groups of features:

        −2 Σ_{i∈g} d_i Σ_h [W ∘ K⁻¹(AW − B)]_ih

    ``fit``, a and b, are mean moments; of sums ``held`` over windows come sums of errors, of means come means. A row of
    ``member`` is 1 in the group of a feature. Raises :class:`hdt.system.errors.InputError` where K is singular.
    """
    with one_thread():
        factor, info = torch.linalg.cholesky_ex(fit.features + penalties.diag_embed())
    if info.any():
        raise InputError("the synthetic moments became singular; raise --option least_penalty or lower --learning-rate")
    weights = torch.cholesky_solve(fit.cross.expand(len(penalties), -1, -1), factor)
    gap = held.features @ weights - held.cross
    errors = (weights * (gap - held.cross)).sum(dim=(1, 2)) + held.target
    adjoint = torch.cholesky_solve(gap, factor)
    return errors, -2 * (penalties * (adjoint * weights).sum(dim=2)) @ member
