"""`python -m sumi`, the same as `sumi`."""

import sys

from sumi.apps.cli import main

sys.exit(main())
