"""Tokens (T, B) and a hidden state in, logits or nats and the next hidden state out.

``language_model`` joins an embedding, a ``recurrence`` and a ``head``; ``state`` makes, detaches and selects
hidden states.
"""
