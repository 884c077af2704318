from __future__ import annotations

import itertools

import pytest

from hdt.run import timeaxis


@pytest.mark.parametrize(
    ("step", "steps", "size", "name"),
    [
        ("P0DT1H0M0S", 384, 1 / 24, "days"),
        ("P0DT0H15M0S", 192, 1 / 4, "hours"),
        ("P7DT0H0M0S", 208, 7 / 365.25, "years"),
        ("P0DT0H0M1S", 100, 1.0, "seconds"),
        ("MS", 120, 1.0, "steps"),  # months differ in length
    ],
)
def test_steps_are_told_in_the_largest_unit_that_fits_thrice(step: str, steps: int, size: float, name: str) -> None:
    found, unit = timeaxis.unit(step, steps)
    assert found == pytest.approx(size) and unit == name


def test_a_day_of_hours_lies_at_its_bin_and_labels_do_not_touch() -> None:
    """16 days in 384 hours: bin 16 is the day, bin 32 half of it; the week, bin 2.3, would touch the day."""
    places, names = timeaxis.period_ticks("P0DT1H0M0S", 384)
    found = dict(zip(names, places, strict=True))
    assert found["1 d"] == pytest.approx(16) and found["6 h"] == pytest.approx(64) and "1 wk" not in found
    assert all(b - a >= 0.14 * 192 for a, b in itertools.pairwise(sorted(places)))
    assert timeaxis.period_ticks("MS", 384) == ([], [])
