"""The model reads (T, B) tokens from a hidden state and gives logits or nats, and the next hidden state.

``language_model`` joins an embedding, a ``recurrence`` and a ``head``; ``state`` makes, detaches and selects
hidden states.
"""
