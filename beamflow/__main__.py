"""``python -m beamflow``."""

from __future__ import annotations

import sys

from beamflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
