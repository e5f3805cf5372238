"""Other programs beside Hayate: the same weights, the same step, in turns in one run.

None of them is a dependency. Each adapter says how to install its program, best in a virtual environment of its own,
beside the project; what is missing is skipped with that hint.
"""
