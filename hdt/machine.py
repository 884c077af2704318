"""Facts about the machine and the installation."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("hdt-ts", "torch", "numpy", "pandas")


def cache_folder() -> Path:
    """Where trained experts and evaluations of full data are kept: ``HDT_CACHE_DIR``, or the user cache."""
    import pooch

    return Path(os.environ.get("HDT_CACHE_DIR") or pooch.os_cache("hdt"))


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``file`` in one move; a failure leaves ``file`` as it was."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Versions of the packages that decide a run's numbers."""
    return {name: package_version(name) for name in PACKAGES}


def package_version(name: str) -> str:
    """The installed version, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def peak_rss_mb() -> float | None:
    """Peak resident memory of this process in MB, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def device_name(device: str) -> str:
    """What a person calls this device."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def doctor() -> dict[str, Any]:
    """What a bug report needs: versions, device, threads, data folders and which data sets are here."""
    import torch

    from hdt import datasets, registry

    here = [d.name for d in registry.REGISTRY.values() if not d.sources or datasets.locate(d, check=False)]
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        **versions(),
        "scipy": package_version("scipy"),
        "device": device_name("cuda" if torch.cuda.is_available() else "cpu"),
        "data folders": [str(folder) for folder in datasets.search_path()],
        "data sets": here,
        "cache": str(cache_folder()),
        "peak_rss_mb": peak_rss_mb(),
    }
