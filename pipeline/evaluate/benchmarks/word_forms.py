"""Sentences as people write them → sentences in the form of a word tokenizer's vocabulary.

A vocabulary of Penn Treebank's words has ``ca n't`` and ``herself .`` where people write ``can't`` and ``herself.``,
and that of Mikolov et al. (2010) has neither capitals nor punctuation. Unchanged, most of such a sentence would be
``<unk>``. Other tokenizers take texts as they are.
"""

from __future__ import annotations

from pipeline.data.tokenizer import EOS, UNK, Tokenizer, TypesTokenizer

MARKS = '.,?!;:"'
CLITICS = ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m")


class WordForms:
    """Rewrites texts in the form of a vocabulary; ``notes`` says what it changes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.notes: list[str] = []
        if tokenizer.kind != "word" or not isinstance(tokenizer, TypesTokenizer):
            return
        self.types = set(tokenizer.types) - {UNK, EOS}
        # a single capital is a symbol: Penn Treebank's N stands for numbers
        self.is_lower = not any(word != word.lower() for word in self.types if len(word) > 1)
        self.clitics = [clitic for clitic in CLITICS if clitic in self.types]
        self.marks = {mark for mark in MARKS if mark in self.types}
        # words that were split only at white space can end with a comma; Penn Treebank's do not
        self.parts_marks = not any(word.endswith(",") and len(word) > 1 for word in self.types)
        if self.is_lower:
            self.notes.append("in lower case")
        if self.clitics:
            self.notes.append(f"{' '.join(self.clitics)} apart")
        if self.parts_marks:
            self.notes.append("punctuation apart" if self.marks else "without punctuation")

    def __call__(self, text: str) -> str:
        if not self.notes:
            return text
        if self.is_lower:
            text = text.lower()
        return " ".join(part for word in text.split() for part in self._parts(word))

    def _parts(self, word: str) -> list[str]:
        """Split a word into the vocabulary's words; punctuation that the vocabulary does not have is dropped."""
        if word in self.types:
            return [word]
        before: list[str] = []
        after: list[str] = []
        while self.parts_marks and word[:1] and word[0] in MARKS:
            before.append(word[0])
            word = word[1:]
        while self.parts_marks and word[-1:] and word[-1] in MARKS and word not in self.types:
            after.insert(0, word[-1])
            word = word[:-1]
        inner = [word] if word else []
        if word not in self.types:
            clitic = next((end for end in self.clitics if word.lower().endswith(end) and len(word) > len(end)), "")
            inner = [word[: -len(clitic)], word[-len(clitic) :]] if clitic else inner
        return [*filter(self.marks.__contains__, before), *inner, *filter(self.marks.__contains__, after)]
