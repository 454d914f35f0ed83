import sys

from tests.trials.crash.matrix import main

sys.exit(main())
