"""Settings in, the documents of each split out, in slices that any worker can read on its own.

patterns → ``sources``, a reader for each → slices of them for each split (``splits``) → on a worker: the ``documents``
of a slice, normalised and chosen

``slices`` are cut in two where their readers say so; ``deduplication`` finds documents that repeat an earlier one.
"""

from pipeline.data.corpus.documents import documents, texts_of
from pipeline.data.corpus.slices import Slice
from pipeline.data.corpus.sources import find_sources
from pipeline.data.corpus.splits import split_corpus

__all__ = ["Slice", "documents", "find_sources", "split_corpus", "texts_of"]
