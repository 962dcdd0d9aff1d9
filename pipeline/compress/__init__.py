"""Smaller forms of a trained model, each with its figures.

checkpoint → ``variants`` (bf16, pruned) and ``onnx_graph`` (float32, int8) → ``measure`` → one table; ``folder`` writes
a form to disk. ``onnx_model`` runs an exported file and needs no torch.
"""
