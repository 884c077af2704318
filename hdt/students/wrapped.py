"""Any network [B, L, C] → [B, H, C] as a student: a class or function of (context, horizon, channels) makes it.

It may take keyword arguments with defaults beside these, which :func:`hdt.search` chooses.
And any regressor with ``fit`` and ``predict`` (:mod:`hdt.students.lags`), and any network of neuralforecast.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any
from uuid import uuid4

from jaxtyping import Float
from torch import Tensor, nn

from hdt.maths.roles import Roles
from hdt.students import neural
from hdt.students.contract import Student, Training, keywords
from hdt.students.lags import is_regressor, on_lags
from hdt.system.errors import InputError, first_line, require
from hdt.system.machine import OUT_OF_MEMORY

INSTALL = {"sklearn": "scikit-learn", "lightgbm": "lightgbm", "neuralforecast": "'hdt-ts[neuralforecast]'"}


def wrap(factory: Any, name: str, training: Training | None = None) -> type[Student]:
    """The student that trains ``factory(context, horizon, channels)``; by default AdamW at 1e-3, batches of 32.

    Its learning rate is chosen like that of every student, from a fifth of it to five times it. A regressor, class or
    instance, is fitted on lags: :func:`hdt.students.lags.on_lags`. Models of neuralforecast, or a function that makes
    one, are trained like other networks: :mod:`hdt.students.neural`. A factory with a true ``takes_known`` makes
    networks of (context, known), see :class:`Student`. Raises :class:`hdt.system.errors.InputError` for
    what is neither.
    """
    if is_regressor(factory):
        require(training is None, f"student {name!r}: a regressor is fitted, not trained; leave training out")
        return on_lags(factory, name)
    require(callable(factory), f"student {name!r}: expected a class or function that makes a network, not {factory!r}")
    try:
        text = inspect.getsource(factory)
    except (OSError, TypeError):  # typed in somewhere: nothing that was kept may be taken for it
        text = uuid4().hex

    model = neural.is_model(factory)
    require(
        not model or inspect.isclass(factory),
        f"student {name!r} is a model that was made; name its class, or a function of (context, horizon, channels)",
    )
    make = neural.maker(factory) if model else factory

    class Wrapped(Student):
        training_settings = training or Training(lr=neural.default_rate(factory) if model else 1e-3)
        mixes_channels = bool(getattr(factory, "MULTIVARIATE" if model else "mixes_channels", False))
        takes_known = neural.takes_known(factory) if model else bool(getattr(factory, "takes_known", False))
        identity = text

        def __init__(self, context: int, horizon: int, channels: int, **more: Any) -> None:
            super().__init__(context, horizon, channels)
            self.more = more
            self.network = _made(make, name, context, horizon, channels, **more)

        def take(self, roles: Roles) -> None:
            super().take(roles)
            if model and roles.known:
                more = {**self.more, **neural.columns(factory, roles)}
                self.network = _made(make, name, self.context, self.horizon, self.channels, **more)

        @classmethod
        def keywords(cls) -> frozenset[str] | None:
            return keywords(make)

        def forward(self, context: Float[Tensor, "B L C"], known: Tensor | None = None) -> Float[Tensor, "B H _"]:
            network: Callable[..., Any] = self.network
            channels = context.shape[2]
            if isinstance(self.network, neural.Network) and known is not None and self.roles is not None:
                channels = self.roles._replace(known=0).within(channels).targets
                network = partial(network, known=known, roles=self.roles)
            elif known is not None:
                network = partial(network, known=known)
            expected = (len(context), self.horizon, channels)
            forecast = _forecast(self, network, context)
            found = tuple(forecast.shape) if isinstance(forecast, Tensor) else type(forecast).__name__
            require(
                found == expected,
                f"student {name!r}: of a context {tuple(context.shape)} it made {found}, not the forecast {expected}",
            )
            return forecast

    Wrapped.name, Wrapped.__name__, Wrapped.__qualname__ = name, _label(factory), _label(factory)
    Wrapped.__module__ = getattr(factory, "__module__", None) or __name__
    return Wrapped


def load(path: str) -> type[Student]:
    """The student at ``package.module:Name``: a :class:`Student`, or what :func:`wrap` takes.

    ``sklearn`` finds its regressors wherever they are in that package, ``neuralforecast`` its models. Modules of the
    current folder are found, too. Raises :class:`hdt.system.errors.InputError` when there is none.
    """
    module, _, label = path.partition(":")
    here, sys.path[:] = sys.path[:], [*sys.path, os.getcwd()]
    try:
        found = _imported(module, label)
    except Exception as error:  # whatever somebody else's module raises
        top = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top in INSTALL:
            raise InputError(f"student {path!r}: {top} is not installed; pip install {INSTALL[top]}") from error
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"student {path!r} cannot be imported ({reason}); expected package.module:Name") from error
    finally:
        sys.path[:] = here
    if not (inspect.isclass(found) and issubclass(found, Student)):
        return wrap(found, path)
    require("training_settings" in dir(found), f"student {path!r} declares no training_settings")

    def forward(self: Student, context: Float[Tensor, "B L C"], *known: Tensor) -> Float[Tensor, "B H C"]:
        return _forecast(self, lambda seen: found.forward(self, seen, *known), context)

    return type(found.__name__, (found,), {"name": path, "__module__": found.__module__, "forward": forward})


def _imported(module: str, label: str) -> Any:
    import_module(module.partition(".")[0])
    if module == "sklearn":
        from sklearn.utils import all_estimators

        known = dict(all_estimators(type_filter="regressor"))
        if label not in known:
            raise AttributeError(f"scikit-learn has no regressor {label!r}")
        return known[label]
    found: Any = import_module("neuralforecast.models" if module == "neuralforecast" else module)
    for part in label.split("."):
        found = getattr(found, part)
    return found


def _made(factory: Any, name: str, *size: int, **more: Any) -> nn.Module:
    try:
        with neural.unseeded():
            network = factory(*size, **more)
    except MemoryError:
        raise
    except Exception as error:  # whatever somebody else's network raises
        if any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise
        beside = "".join(f", {key}={value!r}" for key, value in more.items())
        raise InputError(
            f"student {name!r} cannot be made of (context, horizon, channels) = {size}{beside} ({first_line(error)}); "
            "name a function of these that returns the network"
        ) from error
    network = neural.Network(network, name) if neural.is_model(network) else network
    kind = type(network).__name__
    require(isinstance(network, nn.Module), f"student {name!r}: expected a torch.nn.Module, got {kind}")
    require(any(p.requires_grad for p in network.parameters()), f"student {name!r}: {kind} has nothing to learn")
    return network


def _forecast(student: Student, network: Callable[[Tensor], Any], context: Float[Tensor, "B L C"]) -> Any:
    """What somebody else's network makes of a context, or raises, which is the reader's to mend."""
    try:
        return network(context)
    except (MemoryError, InputError):
        raise
    except Exception as error:
        if any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise
        channels, reason = context.shape[2], f"{type(error).__name__}: {first_line(error)}"
        if channels != student.channels:
            raise InputError(
                f"student {student.name!r} was trained on {student.channels} channels and fails on {channels} "
                f"({reason}); distil with --channels all"
            ) from error
        raise InputError(f"student {student.name!r} fails on a context {tuple(context.shape)} ({reason})") from error


def _label(factory: Any) -> str:
    return str(getattr(factory, "__name__", type(factory).__name__))
