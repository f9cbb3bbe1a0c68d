"""What tools for pruning can do, each tried: ``python -m benchmarks.features``."""
