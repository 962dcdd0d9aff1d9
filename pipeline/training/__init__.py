"""Training turns windows of tokens into trained weights, checkpoints and a metrics file.

``optimizers`` builds the optimizer and its schedule, ``step`` does one update, ``loop`` strings updates,
evaluations and checkpoints together, ``checkpoint`` saves and loads the whole run (its ``manifest`` says whether it was
altered since, ``selection`` which is meant), ``resume`` continues from one, ``monitor`` writes what a person watches.
"""
