"""The commands: each reads its command line, calls ``pipeline`` and prints the result."""

import gc

# a start makes modules and classes, not garbage: to look for some as often as usual takes a tenth of its time
gc.set_threshold(50_000)
