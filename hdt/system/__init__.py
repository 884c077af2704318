"""The ground everything stands on: errors, options, files and folders written in one move, the machine.

In: nothing. Out: :class:`~hdt.system.errors.InputError`, safe writes, facts about the installation.
May import: nothing of hdt.
"""
