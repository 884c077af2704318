"""What a distillation leaves, and the forms it is handed on in: run folder, frame, gluonts, Chronos, report, card.

In: the outcome of ``distillation`` and the panel. Out: :class:`~hdt.run.distilled.Distilled`, and its folder.
May import: ``distillation``, ``data`` and what these import.
"""
