"""The README of a run folder: what the data set is, how to use it, what it may not be taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hdt.distillation import config
from hdt.run.records import METRICS, PAGE, PARAMS, RECIPE, RUN, SERIES, DataInfo, Privacy

if TYPE_CHECKING:
    from hdt.run.synthetic import Synthetic


def card(distilled: Synthetic, command: str) -> str:
    """Markdown text; plain facts of this run."""
    info = distilled.info
    settings, data = info.settings, info.data
    start = "" if info.distance.start is None else f" {info.distance.start:.2f} from the segment it started from,"
    units = "original" if settings.channels is None else "scaled (each channel stands for all real ones)"
    table = "".join(f"| {' | '.join(row)} |\n" for row in config.described(settings, info.chosen))
    notices = "".join(f"- {notice}\n" for notice in data.notices)
    noise = f"- Noise that its horizons lack, for quantiles: {info.noise_floats} numbers in `{RUN}`.\n"
    noise = "" if info.noise is None else noise
    repeat = (
        "settings, for the next update" if data.parts else f"settings to run again with `hdt distill --recipe {RECIPE}`"
    )
    nearest = f"{info.distance.nearest:.2f} from the nearest {info.nearest_of} segment"
    return f"""# {data.name}, distilled

{len(distilled.values)} × {settings.length} synthetic steps of {len(distilled.columns)} channels, made from
{data.training} of real training data by `{settings.method}`
({info.compression:.0f}× fewer numbers).
Made to train forecasters with a context of {settings.context} and a horizon of {settings.horizon} steps;
it is not a record of anything that happened.

```
{command}
```

| setting | value | meaning |
| --- | --- | --- |
{table}
## Use

`{SERIES}` holds the series in {units} units. {_stamps(data)}

```python
import hdt
frame = hdt.Distilled.load("{data.name}").to_frame()  # the path of this folder
```

`{PARAMS}` holds what was learned, `{RUN}` every setting and measurement, `{RECIPE}` the
{repeat}, `{METRICS}` the loss, `{PAGE}` the pictures.

## Facts

- Root mean square distance in standard deviations:{start} {nearest}.
- Largest autocovariance gap {info.acf_gap:.3f}, at most the PSD gap {info.psd_gap:.3f} (means over channels).
- {info.seconds:.1f} s on {info.device}.
{noise}{notices}{_privacy(info.privacy)}
A synthetic series carries statistics of its source: its licence may bind you too.
"""


def _privacy(own: Privacy | None) -> str:
    """What a private set grants and what it does not."""
    if own is None:
        return ""
    return f"""
## Privacy

(ε, δ) = ({own.epsilon:g}, {own.delta:g}): whatever anybody learns from this folder, they would have learned nearly as
well, in the sense of differential privacy, had the values of any one series been others. The mean spectrum of the
{own.series:,} series, {own.numbers} numbers, got Gaussian noise of {own.multiplier:.4g} times what one series can
change of their sum ({own.accountant}); all else was made from it, and every measurement here is of a stand-in with
this spectrum. Public are the number of series and of steps, the time stamps, the file's name and the settings. Not
covered are several series of one person, another set from the same data, which spends as much again, and what is
chosen or measured on real data, such as errors, rates and epochs.
"""


def _stamps(data: DataInfo) -> str:
    own = data.covariates
    if own is None or own.first_stamp is None:
        return "Its time stamps are placeholders: they start at\nthe first real stamp and keep its step."
    return (
        f"Its time stamps are those of a\nreal stretch, and so are these columns, known ahead: {', '.join(own.known)}."
    )
