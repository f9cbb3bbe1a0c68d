"""Which architectures work the whole way, each in a process of its own; writes docs/support.md.

    python -m benchmarks.zoo [--only TEXT] [--again] [--jobs N]
    python -m benchmarks.zoo --one NAME          (prints one JSON line, keeps nothing)

The smallest architecture of every timm family, all of torchvision's for classes and segments,
Hugging Face's in their default configuration and many more in small ones, those for video and flow,
parts of detectors, and those of ultralytics, segmentation-models-pytorch and MONAI; random weights,
scales and statistics.

`libraries` makes networks and example inputs, a module a package; `listing` names them all;
`examine` takes one of them through the columns of `solving` and `columns`, in the order in which a
user comes to them; `__main__` runs what is missing and writes the report.
"""
