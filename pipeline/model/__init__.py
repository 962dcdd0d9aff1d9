"""From (T, B) tokens and a hidden state, the model computes logits or nats and the next hidden state.

``language_model`` joins an embedding, a ``recurrence`` and a ``head``; ``state`` makes, detaches and selects
hidden states.
"""
