"""Text in, token ids out, and back: bytes, characters, words and byte-pair encoding behind one interface.

train on the training documents (``training``) → encode each document (``byte``, ``char``, ``word``, ``bpe``) → decode
ids to text; saved as one JSON file, never a pickle (``files``). Tokenizers of other programs are taken as they are
(``loaded``, ``sentencepiece``).

A tokenizer also says where a text may be cut so that the pieces, encoded separately, give the tokens of the whole
(``safe_cut``): this lets many workers share one file and still write the same shards as a single one.
"""

from pipeline.data.tokenizer.base import EOS, UNK, Ids, Tokenizer, TypesTokenizer, UnknownTextError
from pipeline.data.tokenizer.bpe import DEFAULT_BPE_VOCAB_SIZE, BpeTokenizer
from pipeline.data.tokenizer.byte import ByteTokenizer
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.data.tokenizer.files import load_tokenizer
from pipeline.data.tokenizer.loaded import LoadedTokenizer
from pipeline.data.tokenizer.sentencepiece import SentencePieceTokenizer
from pipeline.data.tokenizer.training import train_tokenizer
from pipeline.data.tokenizer.word import WordTokenizer, split_words

__all__ = [
    "DEFAULT_BPE_VOCAB_SIZE",
    "EOS",
    "UNK",
    "BpeTokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Ids",
    "LoadedTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "TypesTokenizer",
    "UnknownTextError",
    "WordTokenizer",
    "load_tokenizer",
    "split_words",
    "train_tokenizer",
]
