"""Cosine transforms of grids, and tensors mapped by one matrix per axis (Tucker's form)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SOLVER_STEPS = 100  # of conjugate gradients, at most
SOLVED = 1e-12  # of the first squared residual: a millionth of its norm, near what float32 resolves


def dct_matrix(size: int, like: Tensor) -> Float[Tensor, "size size"]:
    """Orthonormal DCT-II: row f holds the cosine of f half-waves."""
    angle = torch.arange(size)[:, None] * (2 * torch.arange(size) + 1).double() * math.pi / (2 * size)
    matrix = angle.cos() * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.to(like)


def dct2(grid: Float[Tensor, "... R P"]) -> Float[Tensor, "... R P"]:
    """DCT-II over rows and columns, which may differ in number."""
    rows, columns = (dct_matrix(size, grid) for size in grid.shape[-2:])
    return rows @ grid @ columns.T


def idct2(grid: Float[Tensor, "... R P"]) -> Float[Tensor, "... R P"]:
    """Inverse of :func:`dct2`."""
    rows, columns = (dct_matrix(size, grid) for size in grid.shape[-2:])
    return rows.T @ grid @ columns


def dct4(size: int, like: Tensor) -> Float[Tensor, "size size"]:
    """Orthonormal DCT-IV, indices from 0."""
    half = torch.arange(size).double() + 0.5
    return ((half[:, None] * half * math.pi / size).cos() * (2 / size) ** 0.5).to(like)


def compose(tensors: Float[Tensor, "N_T t1 t2 t3 t4"], kernels: list[Tensor]) -> Float[Tensor, "N_T N_K u1 u2 u3 u4"]:
    """T_i ×₁ K_j¹ ×₂ K_j² ×₃ K_j³ ×₄ K_j⁴ for all pairs (i, j)."""
    whole = tensors[:, None]
    for axis, kernel in enumerate(kernels):
        moved = whole.movedim(2 + axis, -1).flatten(2, -2)  # [N_T, 1 or N_K, others, t_d]
        others = whole.movedim(2 + axis, -1).shape[2:-1]
        whole = (moved @ kernel).unflatten(2, others).movedim(-1, 2 + axis)
    return whole


def closest_tensors(
    target: Float[Tensor, "N_T N_K u1 u2 u3 u4"], kernels: list[Tensor]
) -> Float[Tensor, "N_T t1 t2 t3 t4"]:
    """The T_i that minimise Σ_j ‖x_ij − T_i × K_j‖², by conjugate gradients on the normal equations."""
    transposed = [kernel.transpose(1, 2) for kernel in kernels]

    def project(whole: Tensor) -> Tensor:
        """The adjoint of :func:`compose`."""
        for axis, kernel in enumerate(transposed):
            moved = whole.movedim(2 + axis, -1)
            whole = (moved.flatten(2, -2) @ kernel).unflatten(2, moved.shape[2:-1]).movedim(-1, 2 + axis)
        return whole.sum(dim=1)

    residual = project(target)
    tensors, direction, norm = torch.zeros_like(residual), residual, residual.square().sum()
    first = norm
    for _ in range(SOLVER_STEPS):
        if norm <= SOLVED * first:
            break
        mapped = project(compose(direction, kernels))
        step = norm / (direction * mapped).sum()
        tensors, residual = tensors + step * direction, residual - step * mapped
        before, norm = norm, residual.square().sum()
        direction = residual + norm / before * direction
    return tensors
