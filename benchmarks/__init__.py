"""One file a question; ``python -m benchmarks.NAME`` prints one table and keeps it."""
