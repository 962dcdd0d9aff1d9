"""Settings in, the documents of each split out, in pieces that any worker can read by itself.

patterns → sources (``sources``: files, buckets, datasets, built-in texts) → pieces of each split (``splits``)
→ on a worker: bytes (``texts``) or rows (``records``) of a piece → documents, normalised and chosen (``documents``)

``cutting`` says where a piece may be cut in two, ``survey`` what must be known of all documents before: duplicates.
"""

from pipeline.data.corpus.cutting import blocks
from pipeline.data.corpus.documents import Part, Reading, Tally, documents
from pipeline.data.corpus.sources import Source
from pipeline.data.corpus.splits import Piece, split_corpus
from pipeline.data.corpus.texts import is_text, parse_json, read_file

__all__ = [
    "Part",
    "Piece",
    "Reading",
    "Source",
    "Tally",
    "blocks",
    "documents",
    "is_text",
    "parse_json",
    "read_file",
    "split_corpus",
]
