"""What any program needs, nothing of networks: files that appear whole, names, seeds, progress."""

from .atomic_files import write_text
from .digests import file_digest, fingerprint
from .distributed import alone, leave, rank
from .name_ranges import families
from .naming import common_path, unused
from .progress import Progress, Silent
from .seeding import generator, seed_of
from .tensor_file import read_tensors, write_tensors
from .validation import require, wrong_value

__all__ = [
    "Progress", "Silent", "alone", "common_path", "families", "file_digest", "fingerprint",
    "generator", "leave", "rank", "read_tensors", "require", "seed_of", "unused", "write_tensors",
    "write_text", "wrong_value",
]  # fmt: skip
