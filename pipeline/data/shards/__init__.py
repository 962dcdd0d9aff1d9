"""The token-shard format: a prepared corpus in a folder or bucket, and the one token sequence that it is.

    manifest.json       format, settings, per split and shard: tokens, documents, source bytes, checksums; its own last
    tokenizer.json
    train-00000.arrow   Arrow IPC file, one column ``token`` (uint16 or uint32), batches of fixed length, uncompressed
    train-00000.index   sidecar: offset, length and xxh3 of every batch's bytes in the file; where documents begin

Written by ``writing`` (each file whole, the manifest last), described by ``manifest`` and ``sidecar``, read by
``sequence``: mapped into memory if local, else by ranged reads through ``remote``. Checked at open: the manifest,
the tokenizer and every file's size (reading beyond the end of a mapped file would kill the process). Checked at first
use: each batch, because Arrow itself does not notice a flipped byte. ``verify`` checks everything.
"""

from pipeline.data.shards.manifest import MANIFEST, TOKENIZER, read_manifest, write_manifest
from pipeline.data.shards.sequence import PreparedCorpus, TokenSequence, open_prepared
from pipeline.data.shards.sidecar import sidecar_name
from pipeline.data.shards.writing import ShardWriter, read_sidecar, remove_leftovers, write_shard

__all__ = [
    "MANIFEST",
    "TOKENIZER",
    "PreparedCorpus",
    "ShardWriter",
    "TokenSequence",
    "open_prepared",
    "read_manifest",
    "read_sidecar",
    "remove_leftovers",
    "sidecar_name",
    "write_manifest",
    "write_shard",
]
