"""Complex Fourier coefficients of the whole synthetic series (HDT, arXiv 2603.03760, section 4).

A real series of M steps has M free numbers, not 2(M//2+1): the coefficients of bin 0 and, for even M,
of the Nyquist bin are real. Only the free numbers are stored, so a harmonic series costs exactly as
many floats as a raw one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hdt.maths import spectrum
from hdt.parameterization.contract import Parameterization, Params, Shapes


class Harmonic(Parameterization):
    """``real`` [N, F, C] and ``imaginary`` [N, (M−1)//2, C] orthonormal coefficients; N·M·C floats."""

    name = "harmonic"

    def shapes(self) -> Shapes:
        sequences, length, channels = self.size
        bins, free = length // 2 + 1, (length - 1) // 2
        return {"real": (sequences, bins, channels), "imaginary": (sequences, free, channels)}

    def channel_axes(self) -> dict[str, int]:
        return {"real": 2, "imaginary": 2}

    def encode(self, series: Float[Tensor, "N M C"], near: Params | None = None) -> Params:
        coefficients = spectrum.rfft(series)
        free = slice(1, 1 + (self.size.length - 1) // 2)
        return {"real": coefficients.real.clone(), "imaginary": coefficients.imag[:, free].clone()}

    def decode(self, params: Params) -> Float[Tensor, "N M C"]:
        real, imaginary = params["real"], params["imaginary"]
        zero = torch.zeros_like(real[:, :1])
        nyquist = [] if self.size.length % 2 else [zero]
        return spectrum.irfft(torch.complex(real, torch.cat([zero, imaginary, *nyquist], dim=1)), self.size.length)
