"""``hdt finetune``: a forecaster trained on a run, or what the run is worth for fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from hdt.cli.terminal import (
    AsJson,
    Data,
    Device,
    Run,
    checkpoint_beside,
    print_json,
    print_table,
    progress_bar,
    resumable,
    say,
)
from hdt.system.errors import require


def finetune(
    run: Run,
    base: Annotated[
        str | None,
        Option(
            help="Moirai, Chronos-2 or TimesFM to tune: a folder, a hub id, chronos-2, timesfm-2.5 or random:large."
        ),
    ] = None,
    model: Annotated[
        str | None, Option(help="A student instead: dlinear, itransformer, mlp or xpatch; else what --base holds.")
    ] = None,
    from_: Annotated[Path | None, Option("--from", help="Forecaster folder a student goes on from.")] = None,
    real: Annotated[bool, Option("--real", help="Train on the real training part instead.")] = False,
    pattern: Annotated[
        str | None, Option(help="What of the base is tuned: full, freeze_ffn, head_only; lora, except of Moirai.")
    ] = None,
    context: Annotated[int | None, Option(help="L, steps the model sees; the run's by default.")] = None,
    horizon: Annotated[int | None, Option(help="H, steps it forecasts; the run's by default.")] = None,
    patch: Annotated[int | None, Option(help="Moirai's steps per token; chosen on validation by default.")] = None,
    steps: Annotated[int | None, Option(help="Optimiser steps at most.")] = None,
    lr: Annotated[float | None, Option(help="Learning rate; chosen on validation by default.")] = None,
    batch: Annotated[int | None, Option(help="Windows per step.")] = None,
    noise: Annotated[
        bool | None,
        Option("--noise/--no-noise", help="With --base: add the noise that distilled horizons lack. On by default."),
    ] = None,
    mix: Annotated[int | None, Option(help="With --base: windows a sample combines; 2 on small sets, else 1.")] = None,
    clip: Annotated[float | None, Option(help="Largest norm of a gradient.")] = None,
    seed: Annotated[int, Option(help="Order of the windows, first weights, dropout.")] = 0,
    device: Device = "auto",
    precision: Annotated[str, Option(help="float32 or bf16.")] = "float32",
    compile_: Annotated[bool, Option("--compile", help="Train a student through torch.compile.")] = False,
    compare: Annotated[bool, Option("--compare", help="Beside no tuning, all data and random segments.")] = False,
    method: Annotated[list[str] | None, Option(help="With --compare: methods; hdt and wiener by default.")] = None,
    seeds: Annotated[int, Option(help="With --compare: distillations and tunings per row.")] = 3,
    data: Data = None,
    out: Annotated[Path | None, Option(help="Forecaster folder; by default RUN-MODEL, RUN-compare to compare.")] = None,
    force: Annotated[bool, Option("--force", help="Replace an existing forecaster folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune Moirai, Chronos-2 or TimesFM, or train a student, on a run; print its test errors.

    Interrupted, the same command goes on from the last look at the validation part.
    """
    from hdt.tuning import NO_BASE
    from hdt.tuning.base import kind_of
    from hdt.tuning.forecaster import PRETRAINED

    run = run.resolve() if run.name in ("", "..") else run
    options = {
        "context": context, "horizon": horizon, "steps": steps, "lr": lr, "batch": batch, "clip": clip,
        "pattern": pattern, "patch": patch, "noise": noise, "mix": mix,
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    given |= {"device": device, "precision": precision}
    if model is None:
        require(base is not None, NO_BASE)
        model = kind_of(str(base))
    if model in PRETRAINED:
        require(from_ is None and not compile_, "--from and --compile are for students; give a --base")
        if base is not None:
            _licence(base)
    else:
        foreign = [f"--{name}" for name in ("pattern", "patch", "noise", "mix") if name in given] + ["--base"] * (
            base is not None
        )
        foreign += ["--compare"] * compare
        require(not foreign, f"{', '.join(foreign)}: for pre-trained networks only; --model {model} takes --from")
        given["compile"] = compile_
    if compare:
        foreign = ["--real"] * real + ["--seed"] * (seed != 0) + ["--force"] * force
        require(not foreign, f"{', '.join(foreign)}: not with --compare, whose rows and --seeds are fixed")
        out = out or run.with_name(f"{run.name}-compare")
        return _benchmark(run, base, data, method, seeds, out, as_json, given)
    require(method is None, "--method goes with --compare; a run has its method already")
    origin = base if model in PRETRAINED else from_
    _tune(
        run,
        model,
        origin,
        real,
        data,
        out or run.with_name(f"{run.name}-{model}"),
        force,
        as_json,
        {**given, "seed": seed},
    )


def _tune(
    run: Path,
    model: str,
    origin: str | Path | None,
    real: bool,
    data: str | None,
    out: Path,
    force: bool,
    as_json: bool,
    given: dict[str, Any],
) -> None:
    from hdt import tuning
    from hdt.run.distilled import Distilled
    from hdt.run.source import real_data
    from hdt.system.machine import device_of
    from hdt.tuning.forecaster import check_target

    check_target(out, force)
    same = origin is not None and Path(origin).exists() and out.resolve() == Path(origin).resolve()
    require(not same, f"{out}: is what the training starts from; choose another --out")
    distilled = Distilled.load(run)
    panel = real_data(distilled, data)
    with progress_bar() as bar, resumable("the last look at the validation part"):
        task = bar.add_task(f"tuning {model}", total=None)
        forecaster = tuning.finetune(
            distilled, model=model, base=origin, data=panel, real=real,
            checkpoint=checkpoint_beside(out), **given,
            watch=lambda step, total, value: bar.update(
                task, description=f"validation {value:.4f}", completed=step, total=total
            ),
        )  # fmt: skip
    forecaster.save(out, force=force)
    rows = forecaster.test_errors(panel, device_of(given["device"]))
    facts = forecaster.training
    if len(rows) == 2:
        before, after = rows[0]["mse"], rows[1]["mse"]
        if facts["steps_to_best"] == 0:
            say("note: no step was better on validation; the base's own weights were kept")
        elif after > before:
            say(f"note: fine-tuning made the test error worse ({before:.3f} → {after:.3f}), though not validation's")
    if as_json:
        return print_json({"model": model, "out": str(out), "training": facts, "results": rows})
    names = [name for name in rows[0] if name not in ("weights", "forecasts")]
    cells = [[row["weights"], *(f"{row[name]:.3f}" for name in names)] for row in rows]
    title = f"{panel.name}, {forecaster.context}→{forecaster.horizon}, test errors"
    print_table(title, ["", *(name.upper() for name in names)], cells)
    memory = facts["peak_memory_mb"]
    count = len(facts.get("trainings", facts.get("learning_rates", [])))
    print(
        f"  {model} on {facts['trained_on']} data: {facts['steps']} steps"
        + (f" at the best of {count} learning rates; in all" if count > 1 else ",")
        + f" {facts['samples']:,} windows seen, {facts['seconds']:.1f} s"
        + (f" ({facts['seconds_per_step'] * 1000:.0f} ms a step)" if "seconds_per_step" in facts else "")
        + ("" if memory is None else f", peak memory {memory:.0f} MB")
        + f", {facts['device']}"
    )
    print(f"  {out}")


def _benchmark(
    run: Path,
    base: str | None,
    data: str | None,
    method: list[str] | None,
    seeds: int,
    out: Path,
    as_json: bool,
    given: dict[str, Any],
) -> None:
    from hdt.run.distilled import Distilled
    from hdt.tuning import benchmark

    assert base is not None
    foreign = [f"--{name}" for name in ("context", "horizon") if name in given]
    require(not foreign, f"{', '.join(foreign)}: with --compare they are the run's, for which series are distilled")
    distilled = Distilled.load(run)
    with progress_bar() as bar:
        task = bar.add_task("comparing", total=None)
        table = benchmark.benchmark(
            distilled, base=base, data=data, methods=method or benchmark.DISTILLED, seeds=seeds, out=out,
            watch=lambda label, done, total: bar.update(task, description=label, completed=done, total=total), **given,
        )  # fmt: skip
    if as_json:
        return print_json({"rows": json.loads(table.to_json(orient="records"))})
    settings = distilled.info.settings
    headings = ["trained on", "MSE", "MASE", "CRPS", "to full", "samples", "training", "memory", "cheaper",
                "+ distilling", "pays after"]  # fmt: skip
    title = f"{distilled.info.data.name}, {settings.context}→{settings.horizon}, fine-tuned from {base}, {seeds} seeds"
    print_table(title, headings, benchmark.cells_of(table))
    say(f"finished cells are in {out}")


def _licence(base: str) -> None:
    from hdt.tuning.base import licence

    notice = licence(base)
    if notice is not None:
        say(f"note: {notice}")
