"""What any program needs, nothing of networks: files that appear whole, names, seeds, progress."""

from .atomic_files import replace_file, write_text
from .digests import digest_file, digest_json, digest_tensors
from .distributed import leave_process_group, process_rank, require_single_process
from .documents import parse_json, parse_yaml
from .importing import (
    import_object,
    is_object_name,
    refuse_library_code,
    refuse_standard_module,
    search_current_folder,
)
from .logs import silence_logging
from .name_ranges import group_names
from .naming import choose_unused_name, find_common_path
from .progress import ProgressDisplay, SilentProgress
from .sealed_lines import append_line, read_lines
from .seeding import derive_seed, make_generator
from .settings import NUMBER, SECTION, entry, read_settings, refuse, settings_class
from .tensor_file import read_tensors, write_tensors
from .validation import suggest_names, wrong_value

__all__ = [
    "NUMBER", "ProgressDisplay", "SECTION", "SilentProgress", "append_line", "choose_unused_name",
    "derive_seed", "digest_file", "digest_json", "digest_tensors", "entry", "find_common_path",
    "group_names", "import_object", "is_object_name", "leave_process_group", "make_generator",
    "parse_json", "parse_yaml", "process_rank", "read_lines", "read_settings", "read_tensors",
    "refuse", "refuse_library_code", "refuse_standard_module", "replace_file",
    "require_single_process", "search_current_folder", "settings_class", "silence_logging",
    "suggest_names", "write_tensors", "write_text", "wrong_value",
]  # fmt: skip
