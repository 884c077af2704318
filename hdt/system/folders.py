"""Folders and files written in one move: either all of it is there, or none of it.

What is to become ``NAME`` is prepared in a hidden folder beside it, ``.NAME.`` and eight hex digits, which its process
keeps locked. One that nobody locks is what a killed process left: the next one for that target takes it away, and
puts back a folder that the killed one had set aside and not yet replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from safetensors import SafetensorError

from hdt.system.errors import InputError, require

try:
    import fcntl
except ImportError:  # Windows: no locks, so nothing is taken for abandoned
    fcntl = None  # type: ignore[assignment]

STAGE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}", re.DOTALL)
NEW, OLD = "new", "old"  # within a stage: what is to come, and what stood in its place
Own = Callable[[Path], Collection[str]]


def check_target(folder: Path, what: str, own: Own, force: bool) -> None:
    """Refuse a folder that exists (unless ``force`` and it is one of ours or empty) or cannot be made.

    ``what`` is ``run`` or ``forecaster``; ``own`` tells the names of all files that hdt writes into such a folder,
    and raises :class:`InputError` for any other folder. A symbolic link stands for what it points to.
    """
    place = Path(os.path.realpath(folder))
    try:
        recover(place)
        if os.path.lexists(place):
            require(force, f"{folder} exists; choose another --out, or replace it with --force")
            _check_ours(place, folder, what, own)
        parent = next((p for p in place.parents if p.exists()), place)
        ok = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
        require(ok, f"{parent}: cannot write here; choose another --out")
        with suppress(FileNotFoundError):  # a name that is too long is told apart
            _stage_of(place).lstat()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error


def _check_ours(place: Path, folder: Path, what: str, own: Own) -> None:
    """Refuse anything but an empty folder and one of ours that holds nothing else; ``folder`` is its given name."""
    only = f"--force replaces {what} folders only"
    require(place.is_dir(), f"{folder} exists and is not a {what} folder; {only}")
    entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    if not entries:
        return
    try:
        names = own(place)
    except InputError as error:
        raise InputError(f"{folder} exists and is not a {what} folder ({error}); {only}") from None
    foreign = [entry.name for entry in entries if not (_is_stage_of(entry, names) or _is_one_of(entry, names))]
    more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
    what_else = f"{', '.join(foreign[:3])}{more}"
    require(not foreign, f"{folder} holds what is not hdt's: {what_else}; move it away, or choose another --out")


def _is_one_of(entry: os.DirEntry[str], names: Collection[str]) -> bool:
    return entry.name in names and entry.is_file(follow_symlinks=False)


def _is_stage_of(entry: os.DirEntry[str], names: Collection[str]) -> bool:
    stage = STAGE.fullmatch(entry.name)
    return stage is not None and stage["name"] in names and entry.is_dir(follow_symlinks=False)


@contextmanager
def one_move(folder: Path, what: str, own: Own, force: bool) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``folder`` when everything is written.

    A failure leaves ``folder`` as it was. Raises :class:`InputError` when the place cannot be written, and for
    what :func:`check_target` refuses; when that has changed since, what was written is kept beside it.
    """
    check_target(folder, what, own, force)
    place = Path(os.path.realpath(folder))
    try:
        with staging(place) as stage:
            new, old = stage / NEW, stage / OLD
            new.mkdir()
            yield new
            try:
                check_target(folder, what, own, force)
                if force and place.exists():
                    place.rename(old)
                new.rename(place)
            except BaseException as error:
                if old.exists() and not place.exists():
                    old.rename(place)
                if not isinstance(error, InputError | OSError):
                    raise
                why = error if isinstance(error, InputError) else f"{folder}: {error.strerror}"
                kept = _keep(new, place)
                raise InputError(f"{why}; this {what} is complete and kept in {kept}") from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: cannot write the {what} ({reason}); choose another --out") from error


def _keep(new: Path, place: Path) -> Path:
    """Move ``new`` beside ``place``, to the first name that is free; that name."""
    for number in count(2):
        free = place.with_name(f"{place.name}.{number}")
        if os.path.lexists(free):
            continue
        try:
            return new.rename(free)
        except OSError:
            if not os.path.lexists(free):
                raise
    raise AssertionError


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``file`` in one move; a failure leaves ``file`` as it was."""
    with staging(file) as stage:
        yield stage / file.name
        (stage / file.name).replace(file)


def write(file: Path, content: str | bytes) -> None:
    """Write a file in one move, text as UTF-8; raises :class:`InputError` when it cannot be written."""
    try:
        with replacing(file) as part:
            part.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); make room there or copy the folder") from error


@contextmanager
def staging(place: Path) -> Iterator[Path]:
    """A hidden folder beside ``place``, locked while it is there; those that killed processes left go first."""
    place.parent.mkdir(parents=True, exist_ok=True)
    recover(place)
    stage, lock = _locked_stage(place)
    try:
        yield stage
    finally:
        if os.path.lexists(place) or not (stage / OLD).exists():  # else :func:`recover` has work to do there
            shutil.rmtree(stage, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def alone(folder: Path, file: str, what: str) -> Iterator[None]:
    """Work in a folder that holds ``file``, or is empty or not there yet, while nobody else does.

    Raises :class:`InputError` for any other folder, and when another process is at work in it.
    """
    try:
        others = folder.is_dir() and not (folder / file).exists() and any(folder.iterdir())
        require(not others, f"{folder} exists and holds no {what}; choose another --out")
        folder.mkdir(parents=True, exist_ok=True)
        require(os.access(folder, os.W_OK | os.X_OK), f"{folder}: cannot write here; choose another --out")
    except OSError as error:
        raise InputError(f"{folder}: cannot write here ({error.strerror}); choose another --out") from None
    try:
        lock = _lock(folder)
    except BlockingIOError:
        raise InputError(f"{folder}: another {what} is at work here; wait for it, or choose another --out") from None
    except OSError:  # no locks here
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def recover(place: Path) -> None:
    """Take away what killed processes left beside ``place``, and put back what one of them had set aside."""
    if fcntl is None or not place.parent.is_dir():
        return
    for entry in place.parent.iterdir():
        found = STAGE.fullmatch(entry.name)
        if found is None or found["name"] != place.name:
            continue
        with suppress(OSError):  # somebody is at work there, or this is not ours to touch
            lock = _lock(entry)
            try:
                if not os.path.lexists(place) and (entry / NEW).is_dir() and (entry / OLD).is_dir():
                    (entry / OLD).rename(place)
                shutil.rmtree(entry)
            finally:
                os.close(lock)


def _stage_of(place: Path) -> Path:
    return place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")


def _locked_stage(place: Path) -> tuple[Path, int | None]:
    """A new stage and its lock, which is None where the system has none for folders."""
    while True:
        stage = _stage_of(place)
        stage.mkdir()
        try:
            lock = _lock(stage)
        except (BlockingIOError, FileNotFoundError):  # found by another process before it was locked, and taken away
            continue
        except OSError:
            return stage, None
        if stage.exists():
            return stage, lock
        os.close(lock)


def _lock(folder: Path) -> int:
    """A descriptor that locks a folder until it is closed; BlockingIOError when another has the lock."""
    if fcntl is None:
        raise OSError("no locks here")
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
