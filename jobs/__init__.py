"""The commands."""

import gc

# a start makes modules and classes, not garbage: to look for some as often as usual takes a tenth of its time
gc.set_threshold(50_000)
