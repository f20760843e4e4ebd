"""Tokenizers in files: GPT-2's pair vocab.json and merges.txt, and what is refused."""

import json

import pytest

from support.bpe import naive_word
from tinytorch.text.tokenization import BPETokenizer, CharTokenizer, Tokenizer, byte_symbols, split_words

TEXT = "The naïve café: 'We'll see,' said the seagull.\n\n  42 # #  x² 你好 ## the the\t"


@pytest.fixture
def trained():
    return BPETokenizer(330).train(TEXT * 3)


@pytest.fixture
def folder(trained, tmp_path):
    trained.save(tmp_path / "bpe")
    return tmp_path / "bpe"


# the symbols of bytes


@pytest.mark.parametrize(
    ("byte", "symbol"),
    [
        (0x20, "Ġ"),
        (0x0A, "Ċ"),
        (0x09, "ĉ"),
        (0x00, "Ā"),
        (0x21, "!"),
        (0x41, "A"),
        (0x7E, "~"),
        (0x7F, "ġ"),
        (0x80, "Ģ"),
    ]
    + [(0xA0, "ł"), (0xA1, "¡"), (0xAC, "¬"), (0xAD, "Ń"), (0xAE, "®"), (0xE9, "é"), (0xFF, "ÿ")],
)
def test_bytes_are_written_as_in_gpt2s_files(byte, symbol):
    assert byte_symbols()[byte] == symbol


def test_every_byte_has_a_visible_symbol_of_its_own():
    symbols = byte_symbols()
    assert len(set(symbols)) == len(symbols) == 256
    assert all(symbol.isprintable() and not symbol.isspace() for symbol in symbols)


# what is written


def test_the_two_files_are_gpt2s(tmp_path):
    BPETokenizer(262, ["<|endoftext|>"]).train("the the the: éé").save(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert [*vocab.values()] == list(range(262))
    assert vocab["<|endoftext|>"] == 0
    assert vocab["!"] == 1 + 0x21
    assert [*vocab][257:] == ["he", "the", "Ġthe", "Ã©", "ĠÃ©"]
    lines = (tmp_path / "merges.txt").read_bytes().decode().split("\n")
    assert lines == ["#version: 0.2", "h e", "t he", "Ġ the", "Ã ©", "Ġ Ã©", ""]


def test_nothing_else_is_left_in_the_folder(folder, trained):
    trained.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["merges.txt", "vocab.json"]


def test_saving_makes_the_folders_on_the_way(trained, tmp_path):
    trained.save(str(tmp_path / "a" / "b"))
    assert BPETokenizer.load(tmp_path / "a" / "b").vocab == trained.vocab


def test_saving_over_a_file_is_refused(trained, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"save needs a folder, but .*file is a file"):
        trained.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


# what is read


@pytest.mark.parametrize("load", [BPETokenizer.load, Tokenizer.load])
def test_a_loaded_tokenizer_is_the_one_that_was_saved(folder, trained, load):
    loaded = load(str(folder))
    assert type(loaded) is BPETokenizer
    assert (loaded.vocab, loaded.merges, loaded.special_ids) == (trained.vocab, trained.merges, trained.special_ids)
    for text in (TEXT, "something <EOS> new: ½ café"):
        assert loaded.encode(text) == trained.encode(text)
        assert loaded.decode(loaded.encode(text)) == text
    assert loaded.vocab_size == trained.vocab_size


@pytest.mark.parametrize("load", [CharTokenizer.load, Tokenizer.load])
def test_characters_come_back_too(tmp_path, load):
    saved = CharTokenizer().build_vocab(TEXT + '"\\\n\u2028')
    saved.save(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is CharTokenizer
    assert loaded.vocab == saved.vocab
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.json"]


def write_pair(folder, vocab, merges):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return folder


def gpt2_order():
    """The symbols of the bytes in the order of GPT-2's vocabulary: visible ones first."""
    return sorted(byte_symbols())


def test_a_pair_laid_out_as_gpt2s_is_read(tmp_path):
    tokens = [*gpt2_order(), "he", "Ġt", "Ġthe", "<|endoftext|>"]
    merges = "#version: 0.2\nh e\nĠ t\nĠt he\n"
    tokenizer = BPETokenizer.load(write_pair(tmp_path, {token: i for i, token in enumerate(tokens)}, merges))
    assert tokenizer.special_ids == {"<|endoftext|>": 259}
    assert tokenizer.vocab_size == 260
    # "!" is 0 and "Ġ" is 220, as in GPT-2
    assert tokenizer.encode("! the the<|endoftext|>!h\n") == [0, 258, 258, 259, 0, ord("h") - 33, 198]
    assert tokenizer.encode("the hat ") == [ord("t") - 33, 256, 220, ord("h") - 33, ord("a") - 33, ord("t") - 33, 220]
    assert tokenizer.decode([258, 220, 259]) == " the <|endoftext|>"


def test_the_order_of_merges_counts_and_not_the_order_of_ids(tmp_path):
    tokens = ["ab", "<s>", *gpt2_order()[::-1], "bc", "</s>"]  # "bc" is learnt first and has the larger id
    pair = write_pair(tmp_path, {token: i for i, token in enumerate(tokens)}, "b c\na b\n")
    tokenizer = BPETokenizer.load(pair)
    assert [tokenizer.vocab[i] for i in tokenizer.encode("abc ab")] == [b"a", b"bc", b" ", b"ab"]
    assert tokenizer.special_ids == {"<s>": 1, "</s>": 259}
    tokenizer.save(tmp_path / "again")
    again = BPETokenizer.load(tmp_path / "again")
    assert (again.vocab, again.merges) == (tokenizer.vocab, tokenizer.merges)


def test_encoding_with_a_pair_of_files_is_gpt2s_algorithm(folder):
    loaded = BPETokenizer.load(folder)
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    symbols = byte_symbols()
    numbers = {symbol: byte for byte, symbol in enumerate(symbols)}
    merges = []
    for line in (folder / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]:
        a, b = line.split(" ")
        merges.append((numbers[a], numbers[b]))
        numbers[a + b] = 255 + len(merges)
    written = {number: symbol for symbol, number in numbers.items()}
    text = TEXT + "the seething naïvety of 4242 gulls; it's see-through ##"
    expected = [ids[written[t]] for word in split_words(text) for t in naive_word(word.encode(), merges)]
    assert loaded.encode(text) == expected


def test_files_with_the_line_ends_of_windows_are_read(folder, trained):
    merges = folder / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", b"\r\n"))
    assert BPETokenizer.load(folder).merges == trained.merges


def test_a_merge_that_begins_like_a_comment_is_a_merge(tmp_path):
    tokenizer = BPETokenizer(270).train("## ## #version #version")
    tokenizer.save(tmp_path)
    assert (b"#", b"#") in tokenizer.merges
    assert BPETokenizer.load(tmp_path).merges == tokenizer.merges


def test_a_pair_without_merges_is_bytes(tmp_path):
    BPETokenizer(260).train("a").save(tmp_path)
    assert BPETokenizer.load(tmp_path).merges == []


def test_training_a_loaded_tokenizer_starts_anew(folder):
    loaded = BPETokenizer.load(folder).train("zz zz")
    assert loaded.merges == BPETokenizer(330).train("zz zz").merges
    assert loaded.encode("zz") == [260]


# what is refused


def change(folder, name, old, new):
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"needs vocab.json and merges.txt in .*bpe, {name} is missing"):
        BPETokenizer.load(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"CharTokenizer.load needs vocab.json in .*nowhere"):
        CharTokenizer.load(tmp_path / "nowhere")


def test_a_file_instead_of_the_folder_is_refused(folder):
    with pytest.raises(FileNotFoundError, match="vocab.json is missing"):
        BPETokenizer.load(folder / "vocab.json")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_vocabulary_that_was_cut_off_is_refused(folder, share):
    path = folder / "vocab.json"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"vocab.json is damaged"):
        BPETokenizer.load(folder)


def test_merges_that_were_cut_off_at_a_line_are_refused(folder):
    path = folder / "merges.txt"
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join(lines[:20]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"merges.txt makes no '.+', which is in vocab.json .* cut off"):
        BPETokenizer.load(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("merges.txt", "\nh e\n", "\nh\n", r"line \d+ is damaged: it needs two tokens that exist by then, got 'h'"),
        ("merges.txt", "\nh e\n", "\nh e e\n", "got 'h e e'"),
        ("merges.txt", "\nh e\n", "\nh  e\n", "got 'h  e'"),
        ("merges.txt", "\nh e\n", "\n\nh e\n", "got ''"),
        ("merges.txt", "\nh e\n", "\nhe e\n", "got 'he e'"),
        ("merges.txt", "\nh e\n", "\n語 e\n", "got '語 e'"),
        ("merges.txt", "\nh e\n", "\nh e\nh e\n", "makes 'he', which exists already"),
        ("merges.txt", "\nh e\n", "\nh e\nq q\n", "makes 'qq', which is not in vocab.json"),
        ("vocab.json", '"he": ', '"qq": ', "makes 'he', which is not in vocab.json"),
        ("vocab.json", '"!": ', '"<!>": ', "needs all 256 bytes, byte 0x21 is missing"),
        ("vocab.json", '"<PAD>": ', '"PAD": ', "merges.txt makes no 'PAD'"),
        ("vocab.json", '"<UNK>": ', '"<PAD>": ', "it has the token '<PAD>' twice"),
        ("vocab.json", '"<UNK>": 1,', '"<UNK>": 0,', r"needs the ids 0\.\.303 for its 304 tokens, 1 is missing"),
        ("vocab.json", '"<UNK>": 1,', "", r"needs the ids 0\.\.302 for its 303 tokens, 1 is missing"),
        ("vocab.json", '"<UNK>": 1,', '"<UNK>": 1.0,', "is no vocabulary"),
        ("vocab.json", '"<UNK>": 1,', '"<UNK>": true,', "is no vocabulary"),
        ("vocab.json", '"<UNK>": 1,', '"<UNK>": -1,', "1 is missing"),
    ],
)
def test_damaged_files_are_refused_and_the_damage_is_named(folder, name, old, new, message):
    change(folder, name, old, new)
    with pytest.raises(ValueError, match=message):
        BPETokenizer.load(folder)


def test_the_line_of_the_damage_is_counted_from_one(tmp_path):
    BPETokenizer(261).train("abab").save(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nx\n")
    with pytest.raises(ValueError, match=r"merges.txt, line 3 is damaged"):
        BPETokenizer.load(tmp_path)
    (tmp_path / "merges.txt").write_text("a b\nx\n")
    with pytest.raises(ValueError, match=r"merges.txt, line 2 is damaged"):
        BPETokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["[1, 2]", '"text"', '{"a": "b"}', "7"])
def test_json_that_is_no_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "vocab.json").write_text(content)
    with pytest.raises(ValueError, match="vocab.json is no vocabulary: it must be one JSON object from token to id"):
        CharTokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 200_000, '{"a": ' + "1" * 5_000 + "}", "{", ""])
@pytest.mark.parametrize("kind", [CharTokenizer, BPETokenizer])
def test_json_that_breaks_its_reader_is_refused(folder, kind, content):
    (folder / "vocab.json").write_text(content)
    with pytest.raises(ValueError, match="vocab.json is damaged or cut off"):
        kind.load(folder)


@pytest.mark.parametrize("kind", [CharTokenizer, BPETokenizer])
def test_a_token_that_is_no_text_is_refused(folder, kind):
    change(folder, "vocab.json", '"<PAD>": ', '"<\\ud800>": ')
    with pytest.raises(ValueError, match=r"vocab.json is damaged: '<\\ud800>' has half a surrogate pair"):
        kind.load(folder)


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "merges.txt").write_bytes(b"#version\n\xff\xfe")
    with pytest.raises(ValueError, match=r"merges.txt is damaged: byte 9 is not UTF-8"):
        BPETokenizer.load(folder)


def test_a_vocabulary_of_byte_pairs_is_not_taken_for_characters(folder, tmp_path):
    with pytest.raises(ValueError, match="single characters"):
        CharTokenizer.load(folder)
    write_pair(tmp_path, {"a": 0, "b": 1}, "")
    with pytest.raises(ValueError, match=r"is not of a CharTokenizer: its first tokens are not <PAD>"):
        CharTokenizer.load(tmp_path)
