"""The network that fine-tuning starts from: a local folder, a hub id, or a published shape with random weights.

Every mistake a folder can hold is told apart: no such folder, no configuration, no weights, weights that
cannot be read, and a network of another kind.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdt.system.errors import InputError, first_line, require

if TYPE_CHECKING:
    from torch import nn
    from uni2ts.model.moirai import MoiraiModule

INSTALL = (
    "Moirai needs uni2ts, whose declared versions are older than the rest of hdt: "
    "pip install 'hdt-ts[moirai]' && pip install --no-deps uni2ts==2.0.0"
)
CONFIG, WEIGHTS = FILES = ("config.json", "model.safetensors")
FIELDS = {"distr_output", "d_model", "num_layers", "patch_sizes", "max_seq_len", "attn_dropout_p", "dropout_p"}
ALIASES = {"chronos-2": "amazon/chronos-2", "timesfm-2.5": "google/timesfm-2.5-200m-transformers"}
LICENCE = "the weights of {} are Salesforce's, licensed cc-by-nc-4.0: not for commercial use"
# Widths and depths of the published Moirai 1.x networks: 14, 91 and 311 million parameters.
SHAPES = {"small": (384, 6), "base": (768, 12), "large": (1024, 24)}
PATCH_SIZES, MOST_TOKENS = (8, 16, 32, 64, 128), 512  # of the published networks, too
RANDOM = "random:"  # before a published shape
NEEDS_GPU = 150_000_000  # parameters
BYTES_PER_PARAMETER = 16  # weights, gradients and AdamW's two moments in float32


def import_moirai() -> Any:
    """``uni2ts.model.moirai``; raises :class:`InputError` with the line that installs it."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import uni2ts.model.moirai as moirai
    except ImportError as error:
        raise InputError(f"{INSTALL} (missing here: {error.name})") from error
    return moirai


def load_base(base: str | Path) -> MoiraiModule:
    """The Moirai network in ``base``, in float32 on the CPU.

    ``base`` is a folder with config.json and model.safetensors, a Hugging Face hub id such as
    ``Salesforce/moirai-1.1-R-small``, or ``random:small``, ``random:base``, ``random:large`` for a
    published shape with random weights. Raises :class:`InputError`.
    """
    moirai = import_moirai()
    text = str(base)
    if text.startswith(RANDOM):
        return _random(moirai, text.removeprefix(RANDOM))
    folder, config = checkpoint(base)
    missing = sorted(FIELDS - set(config))
    foreign = sorted(set(config) - FIELDS - {"scaling"})
    require(
        not missing and not foreign,
        f"{folder / CONFIG}: not a Moirai 1 network ("
        + "; ".join([f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(foreign)}"] * bool(foreign))
        + "); Moirai 2 and Moirai-MoE cannot be fine-tuned here",
    )
    from safetensors import SafetensorError

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            network = moirai.MoiraiModule.from_pretrained(str(folder), strict=True)
    except SafetensorError as error:
        raise InputError(f"{folder / WEIGHTS}: cannot be read ({error}); copy it again") from error
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = first_line(error)
        raise InputError(f"{base}: weights and configuration do not fit ({reason})") from error
    check_finite(network, folder)
    return network


def kind_of(base: str | Path) -> str:
    """The model that ``base`` holds: ``chronos``, ``timesfm`` or ``moirai``, told by config.json, of a hub id by its
    name."""
    file, signs = Path(base) / CONFIG, "" if Path(base).is_dir() else str(base).lower()
    if file.is_file():
        config = _config(file)
        signs = "chronos" if "chronos_config" in config else str(config.get("model_type"))
    return next((kind for kind in ("chronos", "timesfm") if kind in signs), "moirai")


def checkpoint(base: str | Path) -> tuple[Path, dict[str, Any]]:
    """The folder of a checkpoint, downloaded where ``base`` is a hub id, and its configuration."""
    text, folder = ALIASES.get(str(base), str(base)), Path(base)
    if not folder.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith("."):
        folder = _download(text)
    require(folder.is_dir(), f"{base}: no such folder; give one with {' and '.join(FILES)}, or a hub id OWNER/NAME")
    for name in FILES:
        require((folder / name).is_file(), f"{base}: {name} is missing, so this is not a checkpoint of a network")
    return folder, _config(folder / CONFIG)


def check_finite(network: nn.Module, folder: Path) -> None:
    """Refuse weights that are not finite."""
    finite = all(bool(weight.isfinite().all()) for weight in network.parameters())
    require(finite, f"{folder / WEIGHTS}: holds weights that are not finite")


def licence(base: str | Path) -> str | None:
    """What to tell the user once about weights from the hub; None for anything else."""
    text = str(base)
    return LICENCE.format(text) if text.lower().startswith("salesforce/") and not Path(base).exists() else None


def parameters(module: nn.Module) -> int:
    """How many numbers the network holds."""
    return sum(parameter.numel() for parameter in module.parameters())


def check_size(base: str | Path, count: int | None, device: str) -> None:
    """Refuse to tune a large network on a CPU that was not asked for; ``count`` of its parameters, when known.

    Published shapes with random weights are counted before any memory is taken for them.
    """
    import torch

    if count is None:
        if not str(base).startswith(RANDOM):
            return
        with torch.device("meta"):
            count = parameters(_random(import_moirai(), str(base).removeprefix(RANDOM)))
    if count > NEEDS_GPU and device == "auto" and not torch.cuda.is_available():
        raise InputError(
            f"{base}: fine-tuning {count / 1e6:.0f} million parameters wants a CUDA device with at least "
            f"{count * BYTES_PER_PARAMETER / 2**30:.1f} GB for weights, gradients and AdamW, and more for activations; "
            "there is none here (--device cpu insists)"
        )


def _random(moirai: Any, shape: str) -> MoiraiModule:
    import torch
    from uni2ts import distribution

    require(shape in SHAPES, f"random:{shape}: unknown shape; known: {', '.join(SHAPES)}")
    width, depth = SHAPES[shape]
    parts = [
        distribution.StudentTOutput(),
        distribution.NormalFixedScaleOutput(),
        distribution.NegativeBinomialOutput(),
        distribution.LogNormalOutput(),
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return moirai.MoiraiModule(
            distr_output=distribution.MixtureOutput(parts), d_model=width, num_layers=depth, patch_sizes=PATCH_SIZES,
            max_seq_len=MOST_TOKENS, attn_dropout_p=0.0, dropout_p=0.0,
        )  # fmt: skip


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error})") from error
    require(isinstance(config, dict), f"{file}: expected an object")
    return config


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        # Only these two: the hub's mixin would fall back to a pickle.
        return Path(snapshot_download(hub_id, allow_patterns=list(FILES)))
    except Exception as error:  # no network, no such repository, no permission: requests, httpx and hub errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{hub_id}: no such folder, and as a hub id it cannot be downloaded ({reason}); download "
            f"{' and '.join(FILES)} elsewhere into a folder and give it with --base FOLDER"
        ) from error
