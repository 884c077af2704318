"""Regressors on lags as students: anything with ``fit`` and ``predict``, such as those of scikit-learn and LightGBM.

A row is one window of one channel: the last L values are its features, the next H its targets; channels share one
regressor. All values of a row are taken relative to its last known one (``level`` "last", as NLinear does, arXiv
2205.13504), for trees know no level that they have not seen; "mean" subtracts the mean of the context, "none" nothing.
A regressor that takes one target gets one copy for each step of the horizon (the direct strategy). Nothing is chosen
on validation data, so there is one fit, and only its error is measured there.

Rows are counted, because full data have many: at most ``ROWS`` for a regressor that takes all steps at once, at most
``ROWS_EACH`` for copies of one that does not, spread evenly over the windows; a warning says so.
"""

from __future__ import annotations

import copy
import inspect
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hdt.maths.windows import spread, windows
from hdt.students.contract import Student, Training
from hdt.system.errors import InputError, first_line, require

ROWS, ROWS_EACH = 200_000, 20_000
LEVELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of contexts [n, L]: [n, 1]
    "last": lambda rows: rows[:, -1:],
    "mean": lambda rows: rows.mean(axis=1, keepdims=True),
    "none": lambda rows: np.zeros_like(rows[:, :1]),
}


class Lags(Student):
    """A regressor from a channel's last L values to its next H; :meth:`learn` fits it, nothing is trained by gradient.

    ``regressor`` is copied and never fitted itself; ``level`` and ``rows`` are those of :func:`on_lags`. Keyword
    arguments of the constructor are parameters of the regressor.
    """

    training_settings = Training(lr=0.0)
    rates = (1.0,)
    by_gradient = False
    regressor: ClassVar[Any]
    level: ClassVar[str]
    rows: ClassVar[int | None]

    def __init__(self, context: int, horizon: int, channels: int, **settings: Any) -> None:
        super().__init__(context, horizon, channels)
        self.settings = settings
        self.fitted: list[Any] = []
        self._copy(0)

    @classmethod
    def keywords(cls) -> frozenset[str] | None:
        return frozenset(_settings(cls.regressor))

    def learn(self, series: Float[Tensor, "N M C"], seed: int) -> int:
        """Fit it on windows of the series, NaN where one has not begun; returns how many rows were used.

        Whatever is random starts from ``seed`` unless the regressor has one. Raises
        :class:`hdt.system.errors.InputError` where it refuses the rows.
        """
        together = self._fit(series, ROWS, seed) if self.horizon > 1 else 0
        return together or self._fit(series, ROWS_EACH, seed, each=True)

    def _fit(self, series: Tensor, most: int, seed: int, each: bool = False) -> int:
        """The rows that one regressor, or ``each`` of H copies, was fitted on; 0 where one does not take all steps."""
        every, channels = windows(series, self.context, self.horizon), series.shape[2]  # [N, n, L+H, C]
        begun = (~every[..., 0, 0].isnan()).flatten().nonzero().flatten()
        chosen = begun[spread(len(begun), max(1, (self.rows or most) // channels)).to(begun.device)]
        rows = _rows(every[chosen // every.shape[1], chosen % every.shape[1]])
        rows -= LEVELS[self.level](rows[:, : self.context])
        lags, targets = rows[:, : self.context], rows[:, self.context :]
        self.fitted = [self._copy(seed) for _ in range(self.horizon if each else 1)]
        try:
            with redirect_stdout(StringIO()):  # LightGBM talks
                for part, target in zip(self.fitted, targets.T if each else [targets], strict=True):
                    part.fit(lags, target)
        except MemoryError:
            raise
        except Exception as error:  # whatever somebody else's regressor raises
            if not each:
                return 0
            raise InputError(f"student {self.name!r} cannot be fitted ({first_line(error)})") from error
        if len(chosen) < len(begun):
            warnings.warn(
                f"{self.name} was fitted on {len(rows)} of {len(begun) * channels} windows of single channels, evenly "
                "spread",
                stacklevel=2,
            )
        return len(rows)

    def _copy(self, seed: int) -> Any:
        new = copy.deepcopy(self.regressor)
        if self.settings:
            new.set_params(**self.settings)
        own = _settings(new)
        # LightGBM would otherwise take every core there is, whoever else works on it.
        ours = {"random_state": seed, "n_jobs": torch.get_num_threads()}
        last = {name: name.rpartition("__")[2] for name in own}  # also of the steps of a pipeline
        given = {name: ours[last[name]] for name, value in own.items() if value is None and last[name] in ours}
        return new.set_params(**given) if given else new

    def forward(self, context: Float[Tensor, "B L C"]) -> Float[Tensor, "B H C"]:
        require(len(self.fitted) > 0, f"student {self.name!r} is not fitted yet")
        batch, _, channels = context.shape
        rows = _rows(context)
        level = LEVELS[self.level](rows)
        try:
            found = [np.asarray(part.predict(rows - level), dtype=np.float64) for part in self.fitted]
        except MemoryError:
            raise
        except Exception as error:  # whatever somebody else's regressor raises
            raise InputError(f"student {self.name!r} cannot forecast ({first_line(error)})") from error
        forecast = np.stack(found, axis=-1) if self.horizon == 1 or len(found) > 1 else found[0]
        require(
            forecast.shape == (len(rows), self.horizon),
            f"student {self.name!r}: of lags {rows.shape} it made {forecast.shape}, not the forecast "
            f"{(len(rows), self.horizon)}",
        )
        return torch.from_numpy(forecast + level).to(context).unflatten(0, (batch, channels)).transpose(1, 2)


def on_lags(regressor: Any, name: str, *, level: str = "last", rows: int | None = None) -> type[Student]:
    """The student that fits ``regressor``, a class or an instance, on lags.

    ``level``: what is subtracted from a window, its "last" known value, the "mean" of its context, or "none".
    ``rows``: at most so many windows of single channels are used; ``ROWS``, or ``ROWS_EACH`` where every step needs a
    copy, unless given. Raises :class:`hdt.system.errors.InputError` for another level and for a class that needs
    arguments.
    """
    require(level in LEVELS, f"student {name!r}: unknown level {level!r}; choose one of {', '.join(LEVELS)}")
    require(rows is None or rows >= 1, f"student {name!r}: rows={rows}: at least one is needed")
    kind = regressor if inspect.isclass(regressor) else type(regressor)
    try:
        made = regressor() if inspect.isclass(regressor) else regressor
    except TypeError as error:
        raise InputError(
            f"student {name!r} cannot be made without arguments ({first_line(error)}); name an instance of it, such as "
            "one in a module of yours"
        ) from error
    own = sorted(_settings(made).items()) if hasattr(made, "get_params") else sorted(vars(made).items())
    version = getattr(sys.modules.get(kind.__module__.partition(".")[0]), "__version__", None)
    try:
        text = version or inspect.getsource(kind)
    except (OSError, TypeError):  # typed in somewhere: nothing that was kept may be taken for it
        text = uuid4().hex
    about = {"name": name, "regressor": made, "level": level, "rows": rows, "__module__": kind.__module__}
    return type(kind.__name__, (Lags,), {**about, "identity": repr([text, kind.__qualname__, level, rows, own])})


def is_regressor(thing: Any) -> bool:
    """Whether it is a class or an instance with ``fit`` and ``predict``, and no network."""
    kind = thing if inspect.isclass(thing) else type(thing)
    return not issubclass(kind, nn.Module) and all(callable(getattr(thing, does, None)) for does in ("fit", "predict"))


def _rows(windows: Float[Tensor, "n window C"]) -> Float[np.ndarray, "rows window"]:
    """Every channel of every window by itself, float64."""
    return np.ascontiguousarray(windows.transpose(1, 2).flatten(0, 1).double().cpu().numpy())


def _settings(regressor: Any) -> dict[str, Any]:
    return regressor.get_params() if hasattr(regressor, "get_params") else {}
