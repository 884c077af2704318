"""The screenshots of the pages: `python recipes/screenshots.py` writes docs/figures/view.png and report.png.

A set of the table of docs/start.md is distilled and evaluated by the commands that a reader types, and a Chromium
without a window (chromium, google-chrome or chrome on the path) takes the pictures. Look at them afterwards.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from methods import DOCS, table

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
STEPS = (
    "distill load.csv --out run", "evaluate run --seeds 1", "report run", "view run --no-open",
)  # fmt: skip
SHOTS = {"view.png": ("view.html", "1200,960"), "report.png": ("report.html", "1000,1240")}


def main() -> None:
    """Make the run in a folder that goes away, and take its pictures."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser on the path; install one of {', '.join(BROWSERS)}")
    with TemporaryDirectory() as folder:
        table().to_csv(Path(folder) / "load.csv")
        for step in STEPS:
            subprocess.run([sys.executable, "-m", "hdt", *step.split()], cwd=folder, check=True)
        for name, (page, size) in SHOTS.items():
            address = (Path(folder) / "run" / page).as_uri()
            words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000"]
            shot = f"--screenshot={DOCS / 'figures' / name}"
            subprocess.run([browser, *words, shot, f"--window-size={size}", address], check=True, capture_output=True)
            print(DOCS / "figures" / name)


if __name__ == "__main__":
    main()
