"""The honest protocol: test errors of students on a run, on random segments, on all data, beside naive forecasts.

In: :class:`~hdt.run.distilled.Distilled` and its panel. Out: rows and tables of errors, comparisons, their pictures.
May import: ``run`` and what it imports.
"""
