"""The ground everything stands on: errors, options, parts, safe files, checkpoints, fingerprints, the machine.

In: nothing. Out: :class:`~hdt.system.errors.InputError`, safe writes, facts about the installation.
May import: nothing of hdt.
"""
