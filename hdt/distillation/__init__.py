"""Methods (parameterization × objective, with their settings) and the one loop that optimises a synthetic series.

In: the scaled training part [T, C] and :class:`~hdt.distillation.config.Settings`. Out: the synthetic series
[N, M, C], the arrays it decodes from, and the history of the losses.
May import: ``objective``, ``parameterization``, ``start``, ``training`` and what these import.
"""
