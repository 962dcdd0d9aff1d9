"""Windows in, trained weights and a metrics file out.

``optimizers`` builds the optimizer and its schedule, ``step`` does one update, ``loop`` strings updates,
evaluations and checkpoints together, ``checkpoint`` saves and restores the whole run, ``monitor`` writes what
a person watches.
"""
