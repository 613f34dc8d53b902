"""python -m convnext."""

import sys

from convnext.cli.main import main

sys.exit(main())
