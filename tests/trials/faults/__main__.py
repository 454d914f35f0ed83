import sys

from tests.trials.faults.matrix import main

sys.exit(main())
