"""Seeds from names: every random choice is a function of what it is for, so it can be repeated."""

import hashlib

import torch


def derive_seed(*keys: int | str) -> int:
    """Derive a 56-bit seed from numbers and words, the same on every machine."""
    text = "/".join(str(key) for key in keys)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def make_generator(*keys: int | str) -> torch.Generator:
    """Make a CPU generator that starts from `derive_seed` of the keys."""
    return torch.Generator().manual_seed(derive_seed(*keys))
