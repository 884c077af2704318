"""``hdt audit``: what a run gives away of the data behind it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from typer import Option

from hdt.cli.terminal import AsJson, Data, Run, print_json, print_table, progress_bar, say


def audit(
    run: Run,
    shadows: Annotated[int, Option(help="Sets distilled to attack; two at least.")] = 8,
    seed: Annotated[int, Option(help="Of what each of them is made from.")] = 0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say in numbers what a run gives away: distances to real windows, and a membership attack on sets like it.

    Needs scikit-learn, 'hdt-ts[audit]'. Distils as many sets as there are --shadows, with the settings of the run.
    """
    from hdt.evaluation.audit import audit as look
    from hdt.run.distilled import Distilled

    distilled = Distilled.load(run)
    with progress_bar() as bar:
        task = bar.add_task("auditing", total=None)
        found = look(
            distilled, data, shadows=shadows, seed=seed,
            watch=lambda label, done, total: bar.update(task, description=label, completed=done, total=total),
        )  # fmt: skip
    if as_json:
        return print_json(asdict(found))
    info = distilled.info
    size = info.settings.context + info.settings.horizon
    cells = [
        [name, *(f"{q:.3f}" for q in (own.closest, own.five_percent, own.median))]
        for name, own in (("synthetic", found.synthetic), ("real", found.real))
    ]
    print_table(
        f"{info.data.name} by {info.settings.method}: distance of windows of {size} steps to the nearest real one",
        ["windows", "closest", "5%", "median"], cells,
    )  # fmt: skip
    print(f"{found.nearer:.1%} of the synthetic windows are nearer to a real one than 95% of the real ones; alike: 5%")
    print(
        f"membership attack: AUC {found.auc:.3f} [{found.auc_low:.3f}, {found.auc_high:.3f}], where .5 is guessing "
        f"({found.shadows} sets, each from half of {found.blocks} blocks)"
    )
    say("distances in standard deviations; no promise of privacy follows from either number")
