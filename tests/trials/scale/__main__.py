import sys

from tests.trials.scale.simulation import main

sys.exit(main())
