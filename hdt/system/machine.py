"""Facts about the machine and the installation."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from hdt.system.errors import InputError

if TYPE_CHECKING:
    import torch

CHANNELS, CELLS, SAMPLE = 64, 2**21, 64
PACKAGES = ("hdt-ts", "torch", "numpy", "pandas")
OUT_OF_MEMORY = (
    "DefaultCPUAllocator", "can't allocate memory", "not enough memory", "bad_alloc",
    "Storage size calculation overflowed",
    "CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip


def cache_folder() -> Path:
    """Where trained experts and evaluations of full data are kept: ``HDT_CACHE_DIR``, or the user cache."""
    import pooch

    return Path(os.environ.get("HDT_CACHE_DIR") or pooch.os_cache("hdt"))


@contextmanager
def memory_refusal(advice: str) -> Iterator[None]:
    """Turns running out of memory, on the CPU or on a CUDA device, into an :class:`InputError` with ``advice``."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        out = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
        if not out and not any(sign in text for sign in OUT_OF_MEMORY):
            raise
        where = "CUDA memory" if "CUDA" in text or isinstance(error, torch.cuda.OutOfMemoryError) else "memory"
        raise InputError(f"out of {where}; {advice}") from error


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread of the CPU, for the few operations whose result depends on how many there are."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def channels_at_once(rows: int) -> int:
    """How many channels of so many rows are worked on together: at most ``CHANNELS``, and ``CELLS`` numbers.

    An array of more than 32 MB goes back to the system whenever it is freed, and asking for it anew costs more than
    computing on it.
    """
    return max(1, min(CHANNELS, CELLS // max(1, rows)))


def sample(channels: int) -> range:
    """At most ``SAMPLE`` evenly spaced ones of so many channels: what is looked at where all would tell little more."""
    return range(0, channels, -(-channels // SAMPLE))


def memory_mb(device: torch.device | None = None) -> float | None:
    """Memory in MB of the machine, or of a CUDA device, free or not; None where the system does not say."""
    if device is not None and device.type == "cuda":
        import torch

        return float(torch.cuda.get_device_properties(device).total_memory / 2**20)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    except (AttributeError, ValueError, OSError):  # Windows and others
        return None


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


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float | None]]:
    """Peak memory in MB of what runs inside: allocated on a CUDA device, else resident in the whole process.

    Yields a function that tells it, afterwards too; None where the system does not say.
    """
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: begin the high-water mark anew
    found: list[float | None] = []

    def read() -> float | None:
        try:
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
        except (OSError, StopIteration):
            return peak_rss_mb()
        return round(int(line.split()[1]) / 2**10, 1)

    try:
        yield lambda: found[0] if found else read()
    finally:
        found.append(read())


def device_of(name: str) -> torch.device:
    """``auto`` (CUDA when there is one), ``cpu`` or ``cuda``; raises when CUDA is asked for and absent."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device {name!r}; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: str) -> str:
    """What a person calls this device."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
