"""Text in, windows of token ids out.

``corpus`` finds the documents of each split, ``tokenizer`` turns them into ids, ``prepare`` plans ranges of a
corpus and turns one range into one shard, ``shards`` writes, verifies and memory-maps them as one token
sequence, ``streams`` cuts that sequence into (T, B) windows for the recurrence.
"""
