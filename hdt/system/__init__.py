"""The ground everything stands on: errors, options, parts, files written in one move, fingerprints, the machine.

In: nothing. Out: :class:`~hdt.system.errors.InputError`, safe writes, facts about the installation.
May import: nothing of hdt.
"""
