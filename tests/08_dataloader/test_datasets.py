"""The data sets: the bundled digits, and readers that believe no file."""

import gzip
import io
import os
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.data import datasets
from tinytorch.data.datasets import (
    CIFAR10_CLASSES,
    FASHION_MNIST_CLASSES,
    cifar10,
    data_folder,
    digits,
    fashion_mnist,
    idx_header,
    mnist,
    parse_cifar,
    read_idx,
    tiny_shakespeare,
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty data folder, and no network."""
    import pooch

    def offline(*arguments, **keywords):
        raise ConnectionError("no network in the tests")

    monkeypatch.setenv("TINYTORCH_DATA", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", offline)
    return tmp_path


def idx(array, kind=0x08):
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, split="t10k", n=10_000):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 0, 1] = np.arange(n) % 256
    labels = (np.arange(n) % 10).astype(np.uint8)
    (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images), 1))
    (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels), 1))


# The digits in the package


@pytest.mark.parametrize(("split", "n"), [(None, 1797), ("train", 1438), ("test", 359)])
def test_digits_are_float_images_in_0_to_1_and_int64_labels(split, n):
    images, labels = digits(split)[:]
    assert images.shape == (n, 1, 8, 8)
    assert images.dtype == np.float32
    assert labels.shape == (n,)
    assert labels.dtype == np.int64
    assert float(images.min()) == 0
    assert float(images.max()) == 1
    assert np.unique(labels.data).tolist() == list(range(10))


def test_digits_have_sixteen_steps_of_grey():
    images, _ = digits()[:]
    assert_close(np.unique(images.data), (np.arange(17) / 16).astype(np.float32))


def test_the_first_digits_are_0_to_9_and_the_first_one_is_a_zero_with_a_hole():
    images, labels = digits()[:10]
    assert labels.tolist() == list(range(10))
    assert images.data[0, 0, 3:5, 3:5].sum() == 0
    assert images.data[0, 0, 1].max() > 0.8


def test_the_held_out_digits_are_in_no_training_set():
    whole, train, test = (digits(split)[:] for split in (None, "train", "test"))
    order = np.lexsort(whole[0].data.reshape(1797, 64).T)
    parts = np.concatenate([train[0].data, test[0].data]).reshape(1797, 64)
    labels = np.concatenate([train[1].data, test[1].data])
    again = np.lexsort(parts.T)
    np.testing.assert_array_equal(whole[0].data.reshape(1797, 64)[order], parts[again])
    np.testing.assert_array_equal(np.bincount(whole[1].data), np.bincount(labels))


def test_the_held_out_digits_are_always_the_same_ones():
    assert digits("test")[:12][1].tolist() == [9, 6, 8, 9, 1, 8, 9, 6, 2, 7, 6, 3]


def test_digits_go_through_a_transform():
    images, _ = digits("test", transform=lambda x: 1 - x)[:]
    assert_close(images, 1 - digits("test")[:][0].data)


def test_there_are_no_other_splits():
    with pytest.raises(ValueError, match="digits has the splits None, 'train', 'test', got 'valid'"):
        digits("valid")


# The idx format


@pytest.mark.parametrize(("kind", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_read_idx_reads_every_type_in_the_machines_byte_order(folder, kind, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    (folder / "file").write_bytes(idx(array, kind))
    got = read_idx(folder / "file")
    assert got.dtype == np.dtype(dtype).newbyteorder("=")
    assert got.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_idx_header_reads_lengths_with_the_largest_part_first():
    header = bytes.fromhex("00000803 00000002 00000100 00010000 ff")
    assert idx_header(io.BytesIO(header), "x") == (np.dtype("u1"), (2, 256, 65536))


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress])
def test_read_idx_reads_gzipped_files_and_plain_ones(folder, compress):
    (folder / "file").write_bytes(compress(idx(np.arange(5, dtype=np.uint8))))
    assert read_idx(folder / "file").tolist() == [0, 1, 2, 3, 4]


good = idx(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
packed = gzip.compress(good, mtime=0)  # else it holds the time, and so would the names of the checks below


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no idx file: expected to begin with 00 00"),
        (b"\0\0", "no idx file"),
        (b"<!DOCTYPE html>", "no idx file.*found 3c 21 44 4f"),
        (b"\0\1" + good[2:], "no idx file"),
        (b"\0\0\7" + good[3:], "no idx file"),
        (b"\0\0\x08\0" + good[4:], "no idx file"),
        (good[:11], r"truncated: expected 3 lengths in its header, found 7 bytes"),
        (good[:-1], "expected 12 bytes of values.*found 11"),
        (good[:16], "expected 12 bytes of values.*found 0"),
        (good + b"\0", "expected 12 bytes of values.*found more"),
        (packed[:-3], "damaged or truncated"),
        (packed[:20], "damaged or truncated"),
        (packed[:14] + b"\xff\xff\xff\xff" + packed[18:], "damaged or truncated"),
        (packed[:-8] + b"\0" * 8, "damaged or truncated"),
        (packed + b"rubbish", "damaged or truncated"),
    ],
)
def test_a_damaged_idx_file_is_named_with_what_is_wrong(folder, data, message):
    (folder / "t10k-images").write_bytes(data)
    with pytest.raises(ValueError, match=f"(?s)t10k-images.*{message}"):
        read_idx(folder / "t10k-images")


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress])
def test_a_header_that_claims_terabytes_allocates_nothing(folder, compress):
    (folder / "liar").write_bytes(compress(bytes.fromhex("00000803 80000000 0000001c 0000001c") + bytes(100)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected 1,683,627,180,032 bytes of values"):
            read_idx(folder / "liar")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_lengths_whose_product_overflows_64_bits_are_no_way_in(folder):
    (folder / "liar").write_bytes(bytes.fromhex("00000804" + "80000000" * 2 + "80000004" * 2))
    with pytest.raises(ValueError, match="does not fit its header"):
        read_idx(folder / "liar")


def test_a_shape_other_than_the_official_one_is_refused_before_reading_values(folder):
    (folder / "file").write_bytes(good[:16])
    with pytest.raises(ValueError, match=r"expected an array \(2, 28, 28\), found \(2, 2, 3\)"):
        read_idx(folder / "file", (2, 28, 28))


# MNIST and Fashion-MNIST


@pytest.mark.parametrize("below", [".", "mnist", "MNIST/raw"])
def test_mnist_finds_files_in_the_data_folder(folder, below):
    write_mnist(folder / below)
    data = mnist("test")
    images, labels = data.get_batch(np.array([3, 255]))
    assert len(data) == 10_000
    assert images.shape == (2, 1, 28, 28)
    assert images.dtype == np.float32
    assert_close(images.data[:, 0, 0, 1], np.array([3 / 255, 1], np.float32))
    assert labels.tolist() == [3, 5]
    assert labels.dtype == np.int64


def test_mnist_keeps_bytes_and_gives_its_transform_floats(folder):
    write_mnist(folder)
    data = mnist("test", transform=lambda x: x - 1)
    assert data.tensors[0].dtype == np.uint8
    assert float(data[255][0].max()) == 0


def test_mnist_reads_files_that_were_decompressed(folder):
    write_mnist(folder)
    for path in list(folder.glob("*.gz")):
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert mnist("test")[7][1].item() == 7


def test_fashion_mnist_does_not_take_the_files_of_mnist(folder):
    write_mnist(folder)
    with pytest.raises(FileNotFoundError):
        fashion_mnist("test")
    write_mnist(folder / "fashion-mnist")
    assert len(fashion_mnist("test")) == 10_000


def test_images_and_labels_of_different_number_are_refused(folder):
    write_mnist(folder)
    labels = idx(np.zeros(9_999, np.uint8))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.gz.*expected an array \(10000,\), found \(9999,\)"):
        mnist("test")


def test_a_label_that_is_no_digit_is_refused(folder):
    write_mnist(folder)
    labels = np.zeros(10_000, np.uint8)
    labels[77] = 10
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(ValueError, match=r"expected labels 0\.\.9, found 0\.\.10"):
        mnist("test")


def test_a_web_page_under_the_name_of_the_data_is_named(folder):
    write_mnist(folder)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz is no idx file"):
        mnist("test")


# Missing files


@pytest.mark.parametrize(
    ("load", "files", "below"),
    [
        (lambda: mnist("train"), ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"], "mnist"),
        (lambda: mnist("test"), ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"], "mnist"),
        (lambda: fashion_mnist("test"), ["t10k-images-idx3-ubyte.gz"], "fashion-mnist"),
        (lambda: cifar10("train"), ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"], "cifar10"),
        (lambda: tiny_shakespeare(), ["/data/tinyshakespeare/input.txt"], "tinyshakespeare"),
    ],
)
def test_offline_and_absent_is_one_error_that_says_what_to_put_where(folder, load, files, below):
    with pytest.raises(FileNotFoundError) as caught:
        load()
    message = str(caught.value)
    for file in files:
        assert file in message
    assert f"into {folder / below}" in message
    assert "TINYTORCH_DATA" in message
    assert "ConnectionError" in message
    assert caught.value.__suppress_context__


def test_only_the_files_that_are_missing_are_asked_for(folder):
    write_mnist(folder)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist("test")
    assert "t10k-labels-idx1-ubyte.gz" in str(caught.value)
    assert "t10k-images-idx3-ubyte.gz" not in str(caught.value)


def test_a_failed_download_leaves_no_empty_folder(folder):
    with pytest.raises(FileNotFoundError):
        mnist("test")
    assert list(folder.iterdir()) == []


def test_a_download_is_made_once_with_its_checksum_and_tries_the_next_address(folder, monkeypatch):
    import pooch

    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash))
        if len(asked) == 1:
            raise ValueError("SHA256 hash of downloaded file does not match")
        write_mnist(folder / "elsewhere")
        path.mkdir(exist_ok=True)
        os.replace(folder / "elsewhere" / fname, path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(mnist("test")) == len(mnist("test")) == 10_000
    assert [url.rpartition("/")[2] for url, _ in asked] == ["t10k-images-idx3-ubyte.gz"] * 2 + [
        "t10k-labels-idx1-ubyte.gz"
    ]
    assert asked[0][0] != asked[1][0]
    assert asked[0][1] == "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    assert asked[2][1] == "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"


def test_every_official_file_has_an_address_and_a_sha256():
    sources = [datasets._MNIST, datasets._FASHION_MNIST, datasets._CIFAR10, datasets._TINY_SHAKESPEARE]
    checksums = [checksum for source in sources for checksum in source.sha256.values()]
    assert len(checksums) == len(set(checksums)) == 10
    assert all(len(bytes.fromhex(checksum)) == 32 for checksum in checksums)
    assert all(url.startswith("http") and url.endswith("/") for source in sources for url in source.urls)


def test_without_the_variable_data_lie_in_the_cache_folder(monkeypatch):
    monkeypatch.delenv("TINYTORCH_DATA")
    assert data_folder().name == "tinytorch"
    monkeypatch.setenv("TINYTORCH_DATA", "~/somewhere")
    assert data_folder() == data_folder().home() / "somewhere"


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10])
def test_only_train_and_test_exist(load):
    with pytest.raises(ValueError, match="has the splits 'train', 'test', got None"):
        load(None)


# CIFAR-10


def cifar_bytes(n, labels=None):
    records = np.zeros((n, 3073), np.uint8)
    records[:, 0] = np.arange(n) % 10 if labels is None else labels
    records[:, 1:1025] = 255
    records[:, 1 + 2048 + 33] = 7
    return records.tobytes()


def test_parse_cifar_reads_label_then_red_green_blue_row_by_row():
    images, labels = parse_cifar(cifar_bytes(3), "x")
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == np.uint8
    assert labels.tolist() == [0, 1, 2]
    assert labels.dtype == np.int64
    assert images[1, :, 1, 1].tolist() == [255, 0, 7]
    assert images[1, :, 1, 2].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found 0 bytes"),
        (cifar_bytes(2)[:-1], "batch.bin is damaged or truncated: expected records of 3073 bytes, found 6,145 bytes"),
        (cifar_bytes(2) + b"\0", "found 6,147 bytes"),
        (cifar_bytes(4, [0, 9, 10, 3]), r"expected labels 0\.\.9, found 10 in record 2"),
    ],
)
def test_damaged_cifar_bytes_are_named_with_what_is_wrong(data, message):
    with pytest.raises(ValueError, match=message):
        parse_cifar(data, "batch.bin")


def archive(contents):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def official():
    return cifar_bytes(10_000)


@pytest.mark.parametrize("below", [".", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_cifar10_finds_files_in_the_data_folder(folder, official, below):
    (folder / below).mkdir(parents=True, exist_ok=True)
    (folder / below / "test_batch.bin").write_bytes(official)
    data = cifar10("test")
    images, labels = data.get_batch(np.array([4]))
    assert len(data) == 10_000
    assert data.tensors[0].dtype == np.uint8
    assert images.shape == (1, 3, 32, 32)
    assert float(images.max()) == 1
    assert CIFAR10_CLASSES[labels.item()] == "deer"


def test_cifar10_reads_the_archive_without_unpacking_it(folder, official):
    path = folder / "cifar-10-binary.tar.gz"
    path.write_bytes(archive({"../evil": b"x", "cifar-10-batches-bin/test_batch.bin": official}))
    assert len(cifar10("test")) == 10_000
    assert list(folder.iterdir()) == [path]


def test_cifar10_refuses_a_file_cut_at_the_end_of_a_record(folder, official):
    (folder / "test_batch.bin").write_bytes(official[:-3073])
    with pytest.raises(ValueError, match="test_batch.bin is damaged.*expected 30,730,000 bytes, found 30,726,927"):
        cifar10("test")
    (folder / "test_batch.bin").write_bytes(official + b"\0")
    with pytest.raises(ValueError, match="found more"):
        cifar10("test")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "cifar-10-binary.tar.gz is damaged or truncated"),
        (archive({"cifar-10-batches-bin/test_batch.bin": bytes(100_000)})[:-40], "damaged or truncated"),
        (archive({"cifar-10-batches-py/test_batch": b"x"}), "expected cifar-10-batches-bin/test_batch.bin in it"),
        (archive({"cifar-10-batches-bin/test_batch.bin": b"x"}), "expected 30,730,000 bytes, found 1"),
    ],
)
def test_a_damaged_archive_is_named(folder, data, message):
    (folder / "cifar-10-binary.tar.gz").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        cifar10("test")


def test_ten_classes_have_names():
    assert len(set(CIFAR10_CLASSES)) == len(set(FASHION_MNIST_CLASSES)) == 10


# Tiny Shakespeare


@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "tinyshakespeare/input.txt"])
def test_another_text_under_the_name_is_refused(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"To be, or not to be")
    with pytest.raises(ValueError, match="not the official text: expected 1,115,394 bytes .* found 19 bytes"):
        tiny_shakespeare()


def test_the_official_text_is_read(folder, monkeypatch):
    import hashlib

    text = "First Citizen:\n"
    monkeypatch.setitem(datasets._TINY_SHAKESPEARE.sha256, "input.txt", hashlib.sha256(text.encode()).hexdigest())
    (folder / "tinyshakespeare.txt").write_bytes(text.encode())
    assert tiny_shakespeare() == text
