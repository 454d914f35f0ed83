"""`python -m video_gateway`: the command, where it is not on the path."""

import sys

from video_gateway.cli import main

sys.exit(main())
