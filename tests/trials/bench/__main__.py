import sys

from tests.trials.bench.measure import main

sys.exit(main())
