"""Which variant of a model is better, and by how much: at equal parameters, tokens and time. Ray-free.

compare.variants → widths of equal parameters (``variants``, ``widths``) → trials of a search engine (``plan``) → how
each trained model scores the held-out text (``scores``), what the models cost (``costs``: ``speed``, ``memory``) →
tests and fits (``findings``: ``significance``, ``scaling_law``) → ``sentences``, ``table``, ``pictures`` → one ``page``
"""
