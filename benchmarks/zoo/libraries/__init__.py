"""Networks of packages, a module a package.

Each module has ``list_networks() -> {name: builder}``; a builder takes nothing and returns a model
with random weights, and the args and kwargs of an example call. Nothing is downloaded. The package
itself is imported when a builder is called. `..listing.LIBRARIES` names the modules.
"""

from collections.abc import Callable, Mapping
from typing import Any

Example = tuple[Any, tuple[Any, ...], dict[str, Any]]
Networks = Mapping[str, Callable[[], Example]]
