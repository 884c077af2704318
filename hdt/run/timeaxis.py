"""Axes of pictures in units of time: hours, days, weeks, years."""

from __future__ import annotations

import pandas as pd

from hdt.data.frames import parse_step

UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800, "years": 31_557_600}
PERIODS = {  # the most telling first
    "1 d": 86_400, "1 yr": 31_557_600, "1 wk": 604_800, "12 h": 43_200, "1 h": 3600, "6 h": 21_600, "3 h": 10_800,
    "½ yr": 15_778_800, "13 wk": 7_862_400, "4 wk": 2_419_200, "10 min": 600, "1 min": 60,
}  # fmt: skip
APART = 0.14  # of the width of an axis: labels closer than this would touch


def unit(step: str, steps: int) -> tuple[float, str]:
    """The length of one step in the largest unit of which ``steps`` steps hold three or more, and that unit.

    ``step`` is that of :func:`hdt.data.frames.format_step`. Steps that are no fixed time, such as months, stay steps.
    """
    size = parse_step(step)
    if not isinstance(size, pd.Timedelta):
        return 1.0, "steps"
    seconds = size.total_seconds()
    fitting = [name for name, length in UNITS.items() if steps * seconds >= 3 * length] or ["seconds"]
    return seconds / UNITS[fitting[-1]], fitting[-1]


def period_ticks(step: str, length: int) -> tuple[list[float], list[str]]:
    """Bins of a spectrum of ``length`` steps at which familiar periods lie, and their names; none for calendar steps.

    A period of p steps lies at bin length / p. Those too close to a more telling one are left out.
    """
    size = parse_step(step)
    if not isinstance(size, pd.Timedelta):
        return [], []
    places: list[float] = []
    names: list[str] = []
    for name, seconds in PERIODS.items():
        place = length * size.total_seconds() / seconds
        far = all(abs(place - other) >= APART * length / 2 for other in places)
        if 2 <= place <= length / 2 and far:
            places.append(place)
            names.append(name)
    return places, names
