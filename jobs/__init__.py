"""The commands: each reads its command line, calls ``pipeline`` and prints the result."""

import gc

# starting creates modules and classes, not garbage: looking for garbage as often as usual takes a tenth of that time
gc.set_threshold(50_000)
