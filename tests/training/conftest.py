"""Makes `toy` importable, in workers of pytest-xdist too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
