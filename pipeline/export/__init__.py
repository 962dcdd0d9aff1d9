"""A trained model → a folder that other tools open.

``hugging_face`` writes a folder for transformers: weights, the tokenizer in the form of ``fast_tokenizer``, a ``card``,
and ``modeling_recurray``, the model written again in torch alone. ``checks`` reads the folder back and compares it with
the model on ``samples``.
"""
