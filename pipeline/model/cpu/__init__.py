"""Faster versions of what torch's own kernels do slowly on a CPU; on a GPU, products are torch's own.

``products`` multiplies matrices; ``looped_gru``, ``looped_rnn``, ``looped_slstm``, ``wide_lstm``, ``mogrified_lstm``
and ``reset_before`` loop over the time steps of one layer and compute the gradients of the weights as one product over
the whole window. Everything that is private to torch is in ``onednn``.
"""
