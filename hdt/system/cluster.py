"""Ray, the engine for several machines: to start or to join it, and to wait for its tasks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from typing import Any

from hdt.system.errors import InputError, first_line, require

ENGINES = ("local", "ray")
QUIET: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
ENVIRONMENT = {  # read when Ray is imported first
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # how it will be; without, a notice of that
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of tasks that fail after another
}
LOST = ("WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "ObjectLostError")
JOIN = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False)"
Mapped = Callable[[Callable[[int], Any], Sequence[int]], Iterable[Any]]  # calls it with numbers, results in their order
AHEAD = 2  # tasks of a map for each core that are under way
REACH, ANSWER = 2, 8  # seconds until an address counts as one where nothing, or no Ray, answers


def check(engine: str, workers: int | None, address: str | None) -> None:
    """Refuse an unknown engine, one that is not installed, and what it cannot take."""
    require(engine in ENGINES, f"unknown engine {engine!r}; choose {' or '.join(ENGINES)}")
    require(workers is None or workers >= 1, f"workers={workers}: at least one is needed")
    require(engine == "ray" or address is None, f"address={address}: only engine ray has one; add --engine ray")
    require(engine != "ray" or find_spec("ray") is not None, "Ray is not installed; pip install 'hdt-ts[ray]'")
    if address is not None:
        host, colon, port = address.rpartition(":")
        require(bool(host and colon) and port.isdecimal() and int(port) < 2**16, f"address {address}: not HOST:PORT")
        require(workers is None, f"workers={workers}: the Ray at {address} decides how many; leave it out")


@contextmanager
def joined(workers: int | None, address: str | None) -> Iterator[Any]:
    """The module ``ray``, connected: to the Ray at ``address``, HOST:PORT, or to one of ``workers`` processes on this
    machine (by default as many as it has cores) that ends afterwards, or to what this process was connected to before.

    Raises :class:`hdt.system.errors.InputError` where no Ray answers, after ten seconds at most.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is not None:
        _answers(address)
    import ray

    if ray.is_initialized() and address is None:
        require(workers is None, f"workers={workers}: this process is connected to a Ray, which has its own")
        yield ray
        return
    ends = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", num_cpus=workers, **QUIET)
    except Exception as error:  # of many kinds
        remedy = "it takes one of its machines, with the same versions of Python and Ray" if address else "see /tmp/ray"
        raise InputError(f"cannot {'join' if address else 'start'} Ray ({first_line(error)}); {remedy}") from error
    with suppress(ValueError, TypeError):  # in another thread, or a handler of another language
        signal.signal(signal.SIGTERM, ends)  # Ray prints where it was
    try:
        with _mute():
            yield ray
    finally:
        ray.shutdown()


@contextmanager
def _mute() -> Iterator[None]:
    """Keep Ray from telling stdout of workers that were killed, which it replaces. (RAY_DEDUP_LOGS_SKIP_REGEX does so
    where nobody imported Ray before.)"""
    try:
        from ray._private.ray_logging import stdout_deduplicator as talker
    except ImportError:
        yield
        return
    kept, talker.skip_re = talker.skip_re, re.compile("")
    try:
        yield
    finally:
        talker.skip_re = kept


def _answers(address: str) -> None:
    """Refuse an address that cannot be joined; tried in another process, for Ray itself waits for minutes."""
    host, _, port = address.rpartition(":")
    told = b""
    try:
        socket.create_connection((host, int(port)), REACH).close()
        command = [sys.executable, "-c", JOIN, address]
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER, check=False)
        if found.returncode == 0:
            return
        told = found.stderr
    except subprocess.TimeoutExpired as error:
        told = error.stderr or b""
    except (OSError, UnicodeError):  # of a host that cannot be one
        pass
    require(
        b"uthentication token" not in told,
        f"the Ray at {address} wants its token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what "
        "'ray get-auth-token' prints there",
    )
    require(b"Version mismatch" not in told, f"the Ray at {address} has another version of Ray or Python than this one")
    raise InputError(
        f"no Ray answers at {address}; start one there with 'ray start --head', and join this machine to it with "
        f"'ray start --address={address}'"
    )


def mapped(ray: Any, function: Callable[[int], Any], numbers: Sequence[int]) -> Iterator[Any]:
    """What ``function`` returns for every number, in their order, each a task; some are under way ahead of the caller.

    Tasks whose process was killed are repeated by Ray. Raises as :func:`each` does.
    """
    given, call = ray.put(function), ray.remote(num_cpus=1)(_call)
    ahead, todo = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1))), iter(numbers)
    under_way = deque(call.remote(given, n) for n in islice(todo, ahead))
    found: list[Any] = []
    try:
        while under_way:
            each(ray, [under_way[0]], lambda _, result: found.append(result))
            under_way.popleft()
            under_way.extend(call.remote(given, n) for n in islice(todo, 1))
            yield found.pop()
    finally:
        for task in under_way:  # of a caller that stopped
            ray.cancel(task, force=True)


def _call(function: Callable[[int], Any], n: int) -> Any:
    return function(n)


def each(ray: Any, tasks: Sequence[Any], done: Callable[[Any, Any], None]) -> None:
    """Call ``done`` with every task and its result, in the order in which they end.

    A task whose process or machine was lost is repeated by Ray. An error of a task, or of ``done``, or an interruption,
    cancels the rest. Raises what the task raised, and :class:`hdt.system.errors.InputError` where Ray gives up.
    """
    waiting = list(tasks)
    try:
        while waiting:
            (task,), waiting = ray.wait(waiting)
            done(task, ray.get(task))
    except BaseException as error:
        for task in waiting:
            ray.cancel(task, force=True)
        lost = tuple(getattr(ray.exceptions, name) for name in LOST)
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        if isinstance(cause, lost):
            raise InputError(
                "Ray lost the process of a task again and again, for lack of memory most likely; what is finished is "
                "kept, so run the same command again with fewer workers"
            ) from error
        if cause is not error:
            raise cause from error
        raise
