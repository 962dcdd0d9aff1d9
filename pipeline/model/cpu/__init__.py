"""What torch's own kernels do slowly on a CPU, done faster; on a GPU each hands over to torch.

``products`` multiplies matrices; ``looped_gru``, ``looped_rnn``, ``looped_slstm``, ``wide_lstm``, ``mogrified_lstm``
and ``reset_before`` loop over the time steps of one layer, with the gradients of the weights as one product over the
whole window. ``onednn`` holds all that is private to torch.
"""
