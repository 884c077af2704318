"""Pre-train a small Moirai: python recipes/moirai/pretrain.py RECIPE --out FOLDER

Reads the data sets from HDT_DATA_DIR; of Weather, Exchange and Solar only the first 70%, the usual training part,
of M4 Hourly its training file. ETT is never read. Prints the loss; writes config.json and model.safetensors.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from generate import generate
from safetensors.torch import load_file, save_file

import hdt
from hdt.tuning.tokens import tokens


def corpus(recipe: dict, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Long univariate series by source, each scaled to mean 0 and standard deviation 1."""
    data = Path(os.environ["HDT_DATA_DIR"])
    longest = recipe["context"][1] + recipe["horizon"][1]
    hourly = pd.read_csv(data / "M4_Hourly-train.csv", index_col=0)
    series = {
        "generated": list(generate(rng, recipe["generated_series"], longest)),
        "M4": [row[np.isfinite(row)] for row in hourly.to_numpy(dtype=float)],
    }
    solar = str(data / "solar_10608x137.parquet")
    for name, source in (("Weather", "Weather"), ("Exchange", "Exchange"), ("Solar", solar)):
        series[name] = list(hdt.load(source).part("train").T)
    return {
        name: [((x - x.mean()) / (x.std() + 1e-6)).astype(np.float32) for x in group if len(x) >= longest]
        for name, group in series.items()
    }


def draw(recipe: dict, series: dict[str, list[np.ndarray]], rng: np.random.Generator) -> tuple[torch.Tensor, int, int]:
    """A batch of windows [batch, context + horizon], its context and its patch size."""
    context, horizon = (
        int(rng.integers(low // 8, high // 8 + 1)) * 8 for low, high in (recipe["context"], recipe["horizon"])
    )
    names = list(recipe["shares"])
    rows = []
    for source in rng.choice(len(names), size=recipe["batch"], p=list(recipe["shares"].values())):
        group = series[names[source]]
        long = group[rng.integers(len(group))]
        fitting = [s for s in recipe["strides"] if s * (context + horizon) <= len(long)]
        stride = int(rng.choice(fitting))
        first = rng.integers(len(long) - stride * (context + horizon) + 1)
        rows.append(long[first : first + stride * (context + horizon) : stride])
    return torch.from_numpy(np.stack(rows)), context, int(rng.choice(recipe["patch_sizes"]))


def network(recipe: dict) -> torch.nn.Module:
    from uni2ts.distribution import (
        LogNormalOutput,
        MixtureOutput,
        NegativeBinomialOutput,
        NormalFixedScaleOutput,
        StudentTOutput,
    )
    from uni2ts.model.moirai import MoiraiModule

    parts = [StudentTOutput(), NormalFixedScaleOutput(), NegativeBinomialOutput(), LogNormalOutput()]
    return MoiraiModule(
        distr_output=MixtureOutput(parts), d_model=recipe["d_model"], num_layers=recipe["num_layers"],
        patch_sizes=tuple(recipe["patch_sizes"]), max_seq_len=512, attn_dropout_p=0.0, dropout_p=0.0,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = yaml.safe_load(arguments.recipe.read_text())
    from uni2ts.loss.packed import PackedNLLLoss

    torch.manual_seed(recipe["seed"])
    rng = np.random.default_rng(recipe["seed"])
    series = corpus(recipe, rng)
    module = network(recipe)
    print({name: len(group) for name, group in series.items()}, sum(p.numel() for p in module.parameters()), flush=True)
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=recipe["learning_rate"],
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=recipe["weight_decay"],
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe["learning_rate"], recipe["steps"], pct_start=recipe["warmup"] / recipe["steps"]
    )
    loss_of, losses, start = PackedNLLLoss(), [], time.time()
    for step in range(1, recipe["steps"] + 1):
        windows, context, patch = draw(recipe, series, rng)
        batch = tokens(windows, context, patch, max(recipe["patch_sizes"]))
        names = ("target", "prediction_mask", "observed_mask", "sample_id", "variate_id")
        loss = loss_of(pred=module(**batch), **{name: batch[name] for name in names})
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0:
            print(f"{step} loss {np.mean(losses[-200:]):.4f} {time.time() - start:.0f} s", flush=True)
        if step % 1000 == 0 or step == recipe["steps"]:
            module.save_pretrained(arguments.out)
    # Half the bytes: weights are kept in bfloat16 and widened again by whoever loads them.
    weights = load_file(arguments.out / "model.safetensors")
    save_file({name: value.bfloat16() for name, value in weights.items()}, arguments.out / "model.safetensors")


if __name__ == "__main__":
    main()
