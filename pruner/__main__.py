"""``python -m pruner`` is ``msprune``."""

import sys

from .run import main

sys.exit(main())
