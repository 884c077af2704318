"""``python -m hdt`` is ``hdt``."""

from hdt.cli import main

main()
