"""Which architectures work the whole way, each in a process of its own; writes docs/support.md.

    python -m benchmarks.zoo [--only TEXT] [--again] [--jobs N]
    python -m benchmarks.zoo --one NAME          (prints one JSON line, keeps nothing)

`libraries` makes networks with random weights and example inputs, a module a package; `listing`
names them all; `examine` takes one of them through the columns of `columns`, in the order in which
a user comes to them; `__main__` runs what is missing and writes the report.
"""
