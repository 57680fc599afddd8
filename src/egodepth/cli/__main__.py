"""``python -m egodepth.cli``."""

import sys

from egodepth.cli import main

sys.exit(main())
