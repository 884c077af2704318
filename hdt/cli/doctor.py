"""What `hdt doctor` tells: the facts a bug report needs."""

from __future__ import annotations

import platform
from typing import Any

from hdt.data import datasets, registry
from hdt.system import machine


def doctor() -> dict[str, Any]:
    """What a bug report needs: versions, device, threads, data folders and which data sets are here."""
    import torch

    here = [d.name for d in registry.REGISTRY.values() if not d.sources or datasets.locate(d, check=False)]
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        **machine.versions(),
        **{
            name: machine.package_version(name) for name in ("scipy", "uni2ts", "gluonts", "lightning", "ray", "optuna")
        },
        "device": machine.device_name("cuda" if torch.cuda.is_available() else "cpu"),
        "data folders": [str(folder) for folder in datasets.search_path()],
        "data sets": here,
        "cache": str(machine.cache_folder()),
        "peak_rss_mb": machine.peak_rss_mb(),
    }
