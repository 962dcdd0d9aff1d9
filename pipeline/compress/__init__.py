"""Smaller forms of a trained model are made, each with its figures.

checkpoint → ``variants`` (bf16, pruned) and ``onnx_graph`` (float32, int8) → ``measure`` → one table; ``folder`` writes
what is to be kept. ``onnx_model`` runs an exported file and needs no torch.
"""
