"""``python -m pruner`` is ``msprune``."""

import sys

from .cli import main

sys.exit(main())
