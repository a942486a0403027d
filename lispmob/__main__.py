"""`python -m lispmob` is the daemon."""

from __future__ import annotations

import sys

from lispmob.daemon import main

sys.exit(main())
