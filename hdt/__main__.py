"""``python -m hdt`` is ``hdt``."""

from hdt.cli.app import main

main()
