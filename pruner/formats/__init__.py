"""Files that other runtimes read: one format a file, its maker's library imported in it alone.

`export_network` writes a network, runs the file where a runtime is here, compares its answers with
torch's, times it and lets a Task judge it. A new format is one file here and one line in the
registry.
"""

from .agreement import Agreement
from .base import Format, WriteOptions, import_library
from .export import ExportedFile, FileFigures, export_network
from .file_module import FileModule
from .plain_network import PlainNetwork, describe_tensor
from .registry import FOLDER_FORMAT, find_format, format_names

__all__ = [
    "FOLDER_FORMAT", "Agreement", "ExportedFile", "FileFigures", "FileModule", "Format",
    "PlainNetwork", "WriteOptions", "describe_tensor", "export_network", "find_format",
    "format_names", "import_library",
]  # fmt: skip
