"""Makes pruned networks known to the transformers library, once that is imported."""

from types import ModuleType

import wrapt

_AUTO = "transformers.models.auto.modeling_auto"


def register_when_imported() -> None:
    """Register the classes of `auto_classes` as soon as the library's Auto classes are there.

    Importing the library takes seconds that most users of this package need not spend.
    """

    def register(module: ModuleType) -> None:
        load_auto_classes().register()

    wrapt.register_post_import_hook(register, _AUTO)


def load_auto_classes() -> ModuleType:
    """Import `auto_classes`, and the library with it."""
    from . import auto_classes

    return auto_classes
