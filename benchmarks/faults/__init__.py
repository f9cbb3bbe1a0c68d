"""Faults and bad input: whether anything that was promised is lost.

    python -m benchmarks.faults [--parts kills,files,...] [--kills 200] [--files 500]
                                [--examples 300] [--seed 0] [--work DIR] [--workers N]

A tiny network goes the way of a user, and is killed, cut, flipped, swapped, starved of disk and
fed with files that mean harm. Commands run in forks of one process that has imported everything, so
that a kill falls into work and not into imports. Every case is drawn from the seed and its number
alone: ``--only files:137`` repeats one. What is done is noted in DIR (default: below the system's
folder for temporary files), and the same command goes on. One table is printed; it goes, with
machine, versions, seed and date, to benchmarks/results/faults.json and .md, and the exit code is 1
where a case failed.
"""
