"""``python -m hdt`` is ``hdt``."""

from hdt.cli.main import main

main()
