"""Gradient flow is how far the gradients of a trained model reach back through time: figures and a drawing.

``measure`` returns the norms of ∂loss_t/∂state_(t−k) for every k up to a window's length; ``figure`` draws several
models together.
"""

from pipeline.gradient_flow.measure import GradientFlow, measure, windows_of

__all__ = ["GradientFlow", "measure", "windows_of"]
