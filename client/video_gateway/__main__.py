import sys

from video_gateway.cli import main

sys.exit(main())
