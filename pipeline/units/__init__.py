"""Units are the numbers of a trained model's state, examined one by one: what each of them tracks in a text.

``states`` reads a text token by token and keeps every unit; ``features`` labels each token with properties of the
text; ``probes`` finds the units that predict them, ``ranking`` puts both together, and ``page`` shows it all as HTML.
"""

from pipeline.units.ranking import Finding, rank_units
from pipeline.units.states import States, Unit, read_states

__all__ = ["Finding", "States", "Unit", "rank_units", "read_states"]
