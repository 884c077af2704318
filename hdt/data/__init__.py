"""Reading and checking: what a user has becomes one scaled panel with borders.

In: a frame, a file, a URL or the name of a public data set. Out: :class:`~hdt.data.series.Panel`, a table [T, C] of
checked values with stamps, scaler and the borders of train, validation and test.
May import: ``system``.
"""
