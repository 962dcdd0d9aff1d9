"""Units are the numbers of a trained model's state, looked at one by one: what each of them tracks in a text.

``states`` reads a text token by token and keeps every unit; ``features`` says what is so of the text at each token;
``probes`` finds the units that tell it, and ``ranking`` puts both together; ``page`` shows them in a browser.
"""

from pipeline.units.ranking import Finding, rank_units
from pipeline.units.states import States, Unit, read_states

__all__ = ["Finding", "States", "Unit", "rank_units", "read_states"]
