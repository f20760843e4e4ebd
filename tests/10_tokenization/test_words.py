"""How text is cut into words before anything is merged."""

import unicodedata

import pytest

from tinytorch.text.tokenization import split_words

CASES = [
    ("hello world", ["hello", " world"]),
    ("Hello, world!", ["Hello", ",", " world", "!"]),
    ("in 1776 or 3rd", ["in", " 1776", " or", " 3", "rd"]),
    (
        "it's they're I'd we'll I've I'm don't",
        ["it", "'s", " they", "'re", " I", "'d", " we", "'ll"] + [" I", "'ve", " I", "'m", " don", "'t"],
    ),
    ("IT'S o'clock 'tis", ["IT", "'", "S", " o", "'", "clock", " '", "tis"]),
    ("'sx 'restart", ["'s", "x", " '", "restart"]),
    ("a  b", ["a", " ", " b"]),
    ("a   b", ["a", "  ", " b"]),
    ("a\n b", ["a", "\n", " b"]),
    ("a \nb", ["a", " ", "\n", "b"]),
    ("a\n\nb", ["a", "\n", "\n", "b"]),
    ("a\tb", ["a", "\t", "b"]),
    ("a \t\r\n", ["a", " \t\r\n"]),
    ("   ", ["   "]),
    ("x_y __z", ["x", "_", "y", " __", "z"]),
    (" (a) ...?!", [" (", "a", ")", " ...?!"]),
    ("a1b", ["a", "1", "b"]),
    ("", []),
    # beyond ASCII
    ("naïve café", ["naïve", " café"]),
    ("Привет, мир", ["Привет", ",", " мир"]),
    ("你好 世界。", ["你好", " 世界", "。"]),
    ("x² is ½ of Ⅷ", ["x", "²", " is", " ½", " of", " Ⅷ"]),
    ("四 ٣", ["四", " ٣"]),
    ("é 's", ["é", " '", "s"]),
    ("é's", ["é", "'s"]),
    ("e\u0301", ["e", "\u0301"]),
    ("👍🏽 ok", ["👍🏽", " ok"]),
    ("é_é __", ["é", "_", "é", " __"]),
    ("é\u3000\u00a0b", ["é", "\u3000", "\u00a0", "b"]),
    ("é\u3000 b", ["é", "\u3000", " b"]),
    ("é\x1c\x1d b", ["é", "\x1c\x1d", " b"]),
    ("\x1c\x1f b", ["\x1c\x1f", " b"]),
    ("\x0b\x0c\x85é", ["\x0b\x0c", "\x85", "é"]),
]


@pytest.mark.parametrize(("text", "words"), CASES)
def test_words_are_cut_as_by_gpt2s_pattern(text, words):
    assert split_words(text) == words
    assert "".join(split_words(text)) == text


ALL = [chr(i) for i in (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE1000))]  # nothing is elsewhere
BLANKS = [c for c in ALL if c.isspace() and c not in "\x1c\x1d\x1e\x1f"]


@pytest.fixture(scope="module")
def by_kind():
    kinds = {"L": [], "N": []}
    others = []
    for character in ALL:
        if character not in BLANKS:
            kinds.get(unicodedata.category(character)[0], others).append(character)
    return {"L": "".join(kinds["L"]), "N": "".join(kinds["N"]), "other": "".join(others)}


@pytest.mark.parametrize("kind", ["L", "N", "other"])
def test_every_letter_number_and_sign_of_unicode_is_of_its_kind(by_kind, kind):
    characters = by_kind[kind]
    assert split_words(characters) == [characters]
    assert split_words(" " + characters) == [" " + characters]


@pytest.mark.parametrize("kind", ["L", "N", "other"])
def test_every_ascii_letter_number_and_sign_is_of_its_kind(by_kind, kind):
    characters = "".join(c for c in by_kind[kind] if c.isascii())
    assert split_words(characters) == [characters]
    assert split_words("é" + " " + characters)[1:] == [" " + characters]


@pytest.mark.parametrize("blank", BLANKS)
def test_every_blank_of_unicode_is_white_space(blank):
    assert len(BLANKS) == 25
    assert split_words(f"!{blank}{blank}!") == (["!", " ", " !"] if blank == " " else ["!", blank, blank, "!"])
    assert split_words(f"!{blank}{blank}") == ["!", blank * 2]


def test_text_in_ascii_is_cut_the_same_beside_text_that_is_not():
    text = "It's 3 o'clock,\n\n  and all_is well...\t(they'll say)  \x1c\x0b x"
    assert split_words(text + " é") == [*split_words(text), " é"]


def test_a_long_run_of_one_kind_is_one_word():
    for run in ("_" * 100_000 + "é", "a" * 100_000 + "é"):
        assert len(split_words(run)) == (2 if run[0] == "_" else 1)
