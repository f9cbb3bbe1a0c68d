"""What any program needs, nothing of networks: files that appear whole, names, seeds, progress."""

from .atomic_files import write_text
from .digests import file_digest, fingerprint
from .distributed import leave_process_group, rank, require_single_process
from .name_ranges import group_names
from .naming import common_path, unused_name
from .progress import ProgressDisplay, SilentProgress
from .seeding import derive_seed, generator
from .tensor_file import read_tensors, write_tensors
from .validation import require, wrong_value

__all__ = [
    "ProgressDisplay", "SilentProgress", "common_path", "derive_seed", "file_digest", "fingerprint",
    "generator", "group_names", "leave_process_group", "rank", "read_tensors", "require",
    "require_single_process", "unused_name", "write_tensors", "write_text", "wrong_value",
]  # fmt: skip
