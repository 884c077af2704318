"""Models and hyperparameters chosen on a distilled set in place of all data, and how far that can be trusted.

In: :class:`~hdt.run.distilled.Distilled`, its panel, a search space. Out: a leaderboard, and how the order of
configurations on small sets agrees with that on all data.
May import: ``evaluation`` and what it imports.
"""
