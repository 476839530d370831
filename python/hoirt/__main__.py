"""`python -m hoirt`: the command `hoirt`, for where its script is not in PATH."""

import sys

from hoirt.cli.main import main

sys.exit(main())
