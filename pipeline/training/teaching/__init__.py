"""Learning from a bigger model (``train.teacher``): its distributions, computed during training or stored before.

find (what is at the path) → models, hugging_face (a teacher that runs) or stored (files of its likeliest types)
→ part (the soft targets of each window, and what a run remembers of them) → ``pipeline.model.head.distillation``

``store`` writes the files of ``stored``, for ``jobs.teach``.
"""
