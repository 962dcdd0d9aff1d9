"""Types decoded one by one, added ones included, make the text that Hugging Face decodes from all of them."""

import random
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models

from pipeline.data.tokenizer import LoadedTokenizer
from pipeline.errors import UserError

TYPES = [
    *("the", "river", "▁the", "▁river", "▁", "▁▁", "##ing", "##er", "end</w>", "</w>", "Ġthe", "ing", "Ċ", "Ã", "©"),
    *("âĪ", "'s", "n't", ".", ",", "!", "do not", "_x", "x_", " a", "a ", "東", "ĠÃ©", "z|"),
    *("<0x41>", "<0xC3>", "<0xa9>"),
]
# types added to the model's vocabulary, special ones and others
ADDED = ["[UNK]", "<0x0A>", "<0xE2>", "<0x98>", "<0x83>", "é", "<s> x", "▁new", "##new", "new</w>", "Ġnew", "東京"]
LLAMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
DECODERS: dict[str, Any] = {
    "none": None,
    "ByteLevel": decoders.ByteLevel(),
    "Metaspace": decoders.Metaspace(),
    "Metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "WordPiece": decoders.WordPiece(),
    "WordPiece, no cleanup": decoders.WordPiece(prefix="▁", cleanup=False),
    "BPEDecoder": decoders.BPEDecoder(),
    "ByteFallback": decoders.ByteFallback(),
    "Llama": decoders.Sequence(LLAMA),
    "Fuse": decoders.Fuse(),
    "Strip": decoders.Strip("_", 1, 1),
    "Replace": decoders.Sequence([decoders.Replace(Regex("^▁+"), " "), decoders.Fuse()]),
    "nested": decoders.Sequence([decoders.Sequence([decoders.Replace("z|", "Ġ")]), decoders.ByteLevel()]),
    "empty": decoders.Sequence([]),
}


def tokenizer_with(decoder: Any) -> LoadedTokenizer:
    engine = Tokenizer(models.WordLevel({content: i for i, content in enumerate(TYPES)}, unk_token="the"))
    engine.decoder = decoder
    engine.add_special_tokens([*ADDED[:8], "<0xC3>", "Ġthe"])
    engine.add_tokens([AddedToken(content) for content in ADDED[8:]])
    return LoadedTokenizer("document", engine)


def is_whole(data: bytes) -> bool:
    return "\ufffd" not in data.decode(errors="replace")


@pytest.mark.parametrize("name", DECODERS)
def test_types_decoded_one_by_one_make_the_text_of_all(name: str) -> None:
    tokenizer, source = tokenizer_with(DECODERS[name]), random.Random(name)
    assert tokenizer.num_types == len(TYPES) + len(ADDED)
    # this is the only way in which the text of a type depends on what follows
    end = tokenizer.engine.decode([0, 1], skip_special_tokens=False).removeprefix("the")
    num_compared = 0
    for _ in range(400):
        ids = source.choices(range(tokenizer.num_types), k=source.randint(1, 8))
        data = b"".join(map(tokenizer.decode_bytes, ids))
        if not is_whole(data):
            continue  # Hugging Face shows a whole run of bytes as U+FFFD
        num_compared += 1
        text = tokenizer.engine.decode([0, *ids, 1], skip_special_tokens=False)
        assert text == f"the{data.decode()}{end}"
        assert tokenizer.decode([*ids, tokenizer.eos_id]) == tokenizer.engine.decode(ids, skip_special_tokens=False)
    assert num_compared > 100
    assert tokenizer.decode_bytes(tokenizer.num_types) == b""
    assert tokenizer.decode([]) == ""


# Known answers for added tokens, worked by hand.
@pytest.mark.parametrize(
    ("name", "types", "text"),
    [
        ("none", ["river", "[UNK]", "[UNK]"], " river [UNK] [UNK]"),
        ("WordPiece", ["river", "##ing", "[UNK]", "##new", "."], " rivering [UNK]new."),
        ("Llama", ["▁river", "<0xE2>", "<0x98>", "<0x83>", "<0x0A>", "the", "[UNK]"], " river☃\nthe[UNK]"),
        ("ByteLevel", ["Ġthe", "Ġnew", "ĠÃ©", "[UNK]", "東京", "Ċ"], " the new é[UNK]東京\n"),
        ("BPEDecoder", ["end</w>", "new</w>", "river", "[UNK]"], "end new river[UNK]"),
        ("Metaspace", ["▁the", "▁new", "▁river", "é"], " the new riveré"),
    ],
)
def test_added_types_go_through_the_decoder(name: str, types: list[str], text: str) -> None:
    tokenizer = tokenizer_with(DECODERS[name])
    ids = [tokenizer.engine.token_to_id(content) for content in types]
    assert b"".join(map(tokenizer.decode_bytes, ids)).decode() == text


def test_parts_of_characters_are_their_bytes() -> None:
    assert tokenizer_with(DECODERS["ByteLevel"]).decode_bytes(TYPES.index("âĪ")) == b"\xe2\x88"
    assert tokenizer_with(DECODERS["Llama"]).decode_bytes(TYPES.index("<0xC3>")) == b"\xc3"
    # without ByteFallback its text is its name
    assert tokenizer_with(DECODERS["Metaspace"]).decode_bytes(TYPES.index("<0xC3>")) == b"<0xC3>"


def test_a_decoder_for_speech_is_refused() -> None:
    with pytest.raises(UserError, match="its decoder, CTC, is for speech"):
        tokenizer_with(decoders.CTC())
