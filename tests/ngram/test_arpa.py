"""Files of n-gram models: written, and read again, also by kenlm; files of other programs, and faulty files."""

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.ngram import read_arpa, train_ngram, write_arpa
from tests.ngram.test_ngram import drawn, p_of, text_of


def test_a_model_is_written_and_read_again(tmp_path: Path) -> None:
    lines = [*drawn(80, 20), 'ä "quoted" it\'s a,b \ufb01 3.5 \\end\\ #']
    model = train_ngram(text_of(lines), 4)
    write_arpa(model, tmp_path / "model.arpa")
    found = read_arpa(tmp_path / "model.arpa")
    assert found.words == model.words
    assert found.num_ngrams == model.num_ngrams
    for level, same in zip(found.levels, model.levels, strict=True):
        assert (level.keys == same.keys).all()
        np.testing.assert_allclose(level.log_p, same.log_p, rtol=1e-6)
        np.testing.assert_allclose(level.log_backoff, same.log_backoff, rtol=1e-6, atol=1e-12)
    write_arpa(found, tmp_path / "again.arpa")
    assert (tmp_path / "again.arpa").read_bytes() == (tmp_path / "model.arpa").read_bytes()


# as SRILM writes: in another order, weights left out if they are 0, blanks between words and around them
SMALL = r"""
\data\
ngram 1=4
ngram 2=3
ngram 3=1

\1-grams:
-0.5 b -0.25
-99 <s>
-1 </s>
-0.75	a	-0.5

\2-grams:
-0.4	b a	-0.125
-0.2	<s>  b
-0.3	<s> a	0

\3-grams:
-0.1	<s> b a

\end\
"""


def test_a_file_of_another_program_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.arpa"
    for text in (SMALL, SMALL.replace("\n", "\r\n"), "what it is made of\n" + SMALL + "and more\n"):
        path.write_bytes(text.encode())
        model = read_arpa(path)
        expected = {"<s> b a": -0.1, "a b a": -0.4, "a b": -0.5 - 0.5, "<s> a": -0.3, "b a b": -0.125 - 0.5 - 0.5}
        for words, log10 in expected.items():
            assert math.log10(p_of(model, *words.split())) == pytest.approx(log10), words
        assert model.unknown_id == -1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("\\data\\", "", "is not a file of n-grams: it has no line \\data\\"),
        ("\\end\\", "", "is cut short: it has no line \\end\\"),
        ("ngram 2=3", "ngram 2=4", "declares 4 2-grams, but has 3"),
        ("ngram 3=1\n", "", "declares n-grams of the orders [1, 2], but has [1, 2, 3]"),
        ("-0.1\t<s> b a", "-0.1\t<s> b c", "has 'c' in a 3-gram, but not among its 1-grams"),
        ("-0.1\t<s> b a", "-0.1\t<s> b", "has a line among its 3-grams that is not one: '-0.1\\t<s> b'"),
        ("-0.1\t<s> b a", "-0.1\ta b a", "has a 3-gram whose first 2 words are not among its 2-grams"),
        ("-0.3\t<s> a\t0", "-0.3\t<s> b\t0", "has a 2-gram twice"),
        ("-0.3\t<s> a\t0", "-0.3\t<s> a\tx", "has no number in a line among its 2-grams: '-0.3\\t<s> a\\tx'"),
        ("-0.3\t<s> a", "x\t<s> a", "has no number in a line among its 2-grams"),
        ("-0.3\t<s> a", "0.3\t<s> a", "has a probability above 1 among its 2-grams"),
        ("-99 <s>", "-99 b", "has a word twice among its 1-grams"),
        ("-99 <s>", "-99 s", "has no <s> among its 1-grams"),
    ],
)
def test_a_faulty_file_is_refused(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "small.arpa"
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(UserError) as caught:
        read_arpa(path, argument="ngram")
    assert str(caught.value).startswith(f"ngram: {path}: ")
    assert sentence in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_arpa(tmp_path / "none.arpa")
    (tmp_path / "latin.arpa").write_bytes(b"\\data\\\ncaf\xe9\n\\end\\\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_arpa(tmp_path / "latin.arpa")


def test_kenlm_reads_the_file(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm, which builds from source, is not installed")
    lines, others = drawn(200, 30), [*drawn(40, 40, seed=7), "w1"]
    model = train_ngram(text_of(lines), 5)
    write_arpa(model, tmp_path / "model.arpa")
    reference = kenlm.Model(str(tmp_path / "model.arpa"))
    assert reference.order == 5
    for line in others:
        words = [*line.split(), "</s>"]
        ids = [model.id_of.get(word, model.unknown_id) for word in ["<s>", *words]]
        questions = np.array([([-1] * 4 + ids[: i + 1])[-5:] for i in range(1, len(ids))])
        log_p, orders = model.log_probabilities(questions)
        scores = list(reference.full_scores(line))
        np.testing.assert_allclose(log_p / math.log(10), [score for score, _, _ in scores], rtol=1e-5)
        assert [word not in model.id_of for word in words] == [is_unknown for _, _, is_unknown in scores]
        # kenlm reports no longer n-gram than the next word can still use
        assert (orders >= [min(length, 5) for _, length, _ in scores]).all()
