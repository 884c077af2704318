"""Folders written in one move: either all of a folder is there, or none of it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from hdt.system.errors import InputError, require


def check_target(folder: Path, what: str, force: bool) -> None:
    """Refuse a folder that exists (unless ``force`` and it is one of ours or empty) or cannot be made.

    ``what`` is ``run`` or ``forecaster``; such a folder is known by its file ``run.json`` or ``forecaster.json``.
    """
    if folder.exists():
        require(force, f"{folder} exists; choose another --out, or replace it with --force")
        ours = folder.is_dir() and ((folder / f"{what}.json").is_file() or not any(folder.iterdir()))
        require(ours, f"{folder} exists and is not a {what} folder; --force replaces {what} folders only")
    parent = next(p for p in folder.absolute().parents if p.exists())
    ok = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    require(ok, f"{parent}: cannot write here; choose another --out")


@contextmanager
def one_move(folder: Path, what: str, force: bool) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``folder`` when everything is written.

    A failure leaves ``folder`` as it was. Raises :class:`InputError` when the place cannot be written, and for
    what :func:`check_target` refuses.
    """
    check_target(folder, what, force)
    scratch = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if folder.exists():
            old = scratch.with_suffix(".old")
            folder.rename(old)
            try:
                scratch.rename(folder)
            except OSError:
                old.rename(folder)
                raise
            shutil.rmtree(old)
        else:
            scratch.rename(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: cannot write the {what} ({reason}); choose another --out") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
