"""Statistics of series and the transforms that parameterizations are made of, each beside its source.

In: arrays and tensors [T, C] or [N, M, C]. Out: spectra, moments, correlations, windows, images, distances.
May import: ``system``.
"""
