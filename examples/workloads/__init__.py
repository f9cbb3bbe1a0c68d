"""Small networks of the kinds that the tool is for, one a file, with random weights.

Each module has ``make() -> (model, inputs)``. ``python -m examples.workloads`` takes all of them
through trace, solve, cut and verify, and prints what of them can be pruned.
"""
