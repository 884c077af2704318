"""One way to train a network on windows, and the networks of trajectories: loop, fit (students), experts.

In: a student and series [N, M, C]. Out: the student trained, with its errors and times; paths of experts' weights.
May import: ``students``, ``maths``, ``system``.
"""
