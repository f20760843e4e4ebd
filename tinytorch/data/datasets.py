# Generated from modules/08_dataloader/08_dataloader.py by `tito export`. To change this file, edit the lesson and export again.
"""The data sets of the course: 1,797 digits that come with the package, and official files that are fetched once.

    digits()               8 x 8 handwritten digits, in the package
    mnist(split)           28 x 28 handwritten digits
    fashion_mnist(split)   28 x 28 pieces of clothing, in the same format
    cifar10(split)         32 x 32 colour photographs of ten kinds of things
    tiny_shakespeare()     a million characters of Shakespeare

Files are looked for in the folder that TINYTORCH_DATA names, or else in the user's cache folder, and downloaded into it
(checksums verified) when they are missing. Nothing in a data file is ever executed or unpickled, and nothing is
allocated on the word of a header: lengths are checked against the official ones and against the bytes that are there.
"""

import contextlib
import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinytorch.data.loader import TensorDataset
from tinytorch.data.transforms import Compose, ToTensor

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_header(stream, name):
    """The dtype and shape that the header of an idx file announces, read from an open binary file.

    Layout: two zero bytes, a type code, the number of axes, then each axis as four bytes, most significant first.
    Raises ValueError, naming the file `name`, if this is no such header.
    """
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES or start[3] == 0:
        raise ValueError(
            f"{name} is no idx file: expected to begin with 00 00, a type and a number of axes, found {start.hex(' ')}"
        )
    lengths = stream.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise ValueError(
            f"{name} is truncated: expected {start[3]} lengths in its header, found {len(lengths)} bytes of them"
        )
    return np.dtype(_IDX_TYPES[start[2]]), tuple(int(length) for length in np.frombuffer(lengths, ">u4"))


def read_idx(path, shape=None):
    """The array in an idx file, gzipped or not.

    shape   the shape it must have; checked before any value is read. None takes what the header says

    Raises ValueError, naming the file, what was expected and what was found, if it is damaged or another file.
    """
    path = Path(path)
    with _open(path) as stream:
        try:
            dtype, found = idx_header(stream, path)
            if shape is not None and found != tuple(shape):
                raise ValueError(f"{path} is not the official file: expected an array {tuple(shape)}, found {found}")
            size = math.prod(found) * dtype.itemsize
            data = _read(stream, size + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged or truncated ({error}); delete it and fetch it again") from None
    if len(data) != size:
        found_bytes = f"{len(data):,}" if len(data) < size else "more"
        raise ValueError(
            f"{path} does not fit its header: expected {size:,} bytes of values for an array {found}, "
            f"found {found_bytes}; delete it and fetch it again"
        )
    return np.frombuffer(data, dtype).reshape(found).astype(dtype.newbyteorder("="), copy=False)


def _open(path):
    """The file, decompressed on the way if its first bytes say that it is gzipped."""
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else open(path, "rb")


def _read(stream, limit):
    """The rest of the stream, at most `limit` bytes, held only as they come."""
    data = bytearray()
    while len(data) < limit and (piece := stream.read(min(limit - len(data), 1 << 20))):
        data += piece
    return data


_CIFAR_RECORD = 1 + 3 * 32 * 32
_CIFAR_FILE = 10_000 * _CIFAR_RECORD  # bytes in an official file


def parse_cifar(data, name):
    """The images (N, 3, 32, 32) uint8 and labels (N,) int64 in the bytes of a CIFAR-10 binary file.

    Raises ValueError, naming the file `name`, unless it consists of whole records with labels 0..9.
    """
    if not data or len(data) % _CIFAR_RECORD:
        raise ValueError(
            f"{name} is damaged or truncated: expected records of {_CIFAR_RECORD} bytes, found {len(data):,} bytes, "
            f"which is {len(data) / _CIFAR_RECORD:.2f} records"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        worst = int(labels.argmax())
        raise ValueError(f"{name} is damaged: expected labels 0..9, found {labels[worst]} in record {worst}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


# In the notebook of this lesson there is no __file__: the digits then lie in the current folder, beside the notebook.
_DIGITS = Path(globals().get("__file__", "datasets.py")).with_name("digits.npz")


def digits(split: str | None = None, transform=None):
    """1,797 real handwritten digits of 8 x 8 pixels: a `TensorDataset` of images and labels.

    split    "train" (1,438), "test" (359, held out, always the same ones) or None for all, in their first order
    images   (N, 1, 8, 8) float32, 0 (paper) .. 1 (ink); then `transform`
    labels   (N,) int64, 0..9

    E. Alpaydin and C. Kaynak 1998, UCI Machine Learning Repository, CC BY 4.0; see digits.txt beside this file.
    """
    _check_split("digits", split, (None, "train", "test"))
    with np.load(_DIGITS, allow_pickle=False) as file:
        images, labels, test = file["images"], file["labels"], file["test"]
    held_out = np.zeros(len(images), bool)
    held_out[test] = True
    chosen = {None: slice(None), "train": ~held_out, "test": held_out}[split]
    images = images[chosen, None] / np.float32(16)
    return TensorDataset(images, labels[chosen].astype(np.int64), transform=transform)


def _check_split(name, split, splits):
    if split not in splits:
        raise ValueError(f"{name} has the splits {', '.join(map(repr, splits))}, got {split!r}")


FASHION_MNIST_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class _Source(NamedTuple):
    """Where the official files of a data set come from."""

    name: str
    folders: tuple  # where below the data folder to look; downloads go to the first
    urls: tuple  # addresses that serve the files, tried in this order; each ends in "/"
    sha256: dict  # file name -> checksum


_MNIST = _Source(
    "mnist",
    ("mnist", "MNIST", "MNIST/raw", "."),
    ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
    {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
)
_FASHION_MNIST = _Source(
    "fashion_mnist",
    ("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),  # never ".": MNIST's files are named alike
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
)
_CIFAR10 = _Source(
    "cifar10",
    ("cifar10", "cifar-10", "CIFAR10", "."),
    ("https://www.cs.toronto.edu/~kriz/",),
    {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
)
_TINY_SHAKESPEARE = _Source(
    "tiny_shakespeare",
    ("tinyshakespeare", "tiny_shakespeare", "tiny-shakespeare"),
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
    {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
)


def data_folder() -> Path:
    """Where data files are looked for and downloaded to: TINYTORCH_DATA, or else the user's cache folder."""
    if folder := os.environ.get("TINYTORCH_DATA"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("tinytorch"))


def _find(source, *names):
    """The path of the first of `names` that lies in one of the source's folders, or None."""
    for folder in source.folders:
        for name in names:
            path = data_folder() / folder / name
            if path.is_file():
                return path
    return None


def _obtain(source, names):
    """The paths of the official files `names`: those that are here, and the others after a download."""
    paths = [_find(source, name, name.removesuffix(".gz")) for name in names]
    missing = [name for name, path in zip(names, paths) if path is None]
    if missing:
        _download(source, missing)
        paths = [path or _find(source, name) for name, path in zip(names, paths)]
    return paths


def _download(source, names):
    """Fetch files and verify their checksums. Raises FileNotFoundError that says what to put where by hand."""
    import pooch

    folder = data_folder() / source.folders[0]
    for i, name in enumerate(names):
        failures = []
        for url in source.urls:
            try:
                pooch.retrieve(url + name, f"sha256:{source.sha256[name]}", fname=name, path=folder)
                break
            except (OSError, ValueError) as error:
                reason = "wrong checksum" if isinstance(error, ValueError) else type(error).__name__
                failures.append(f"{reason} at {url}")
        else:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty
            wanted = "\n".join(f"    {source.urls[0]}{name}" for name in names[i:])
            raise FileNotFoundError(
                f"{source.name} needs files that are not here, and downloading them failed ({'; '.join(failures)}). "
                f"Put\n{wanted}\ninto {folder}, or set TINYTORCH_DATA to a folder that holds them."
            ) from None


def _idx_dataset(source, split, transform):
    _check_split(source.name, split, ("train", "test"))
    prefix, n = {"train": ("train", 60_000), "test": ("t10k", 10_000)}[split]
    pictures, classes = _obtain(source, [f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"])
    images = read_idx(pictures, (n, 28, 28))
    labels = read_idx(classes, (n,)).astype(np.int64)
    if not 0 <= labels.min() <= labels.max() <= 9:
        raise ValueError(f"{classes} is damaged: expected labels 0..9, found {labels.min()}..{labels.max()}")
    return _bytes_dataset(images[:, None], labels, transform)


def _bytes_dataset(images, labels, transform):
    """Pictures that are kept as bytes and become float32 in 0..1 as they are drawn."""
    scale = ToTensor()
    return TensorDataset(images, labels, transform=scale if transform is None else Compose([scale, transform]))


def mnist(split: str = "train", transform=None):
    """Handwritten digits of 28 x 28 pixels (LeCun, Cortes, Burges): a `TensorDataset` of images and labels.

    split    "train" (60,000) or "test" (10,000)
    images   kept as bytes, drawn as float32 (n, 1, 28, 28) in 0 (paper) .. 1 (ink); then `transform`
    labels   (N,) int64, 0..9

    Raises FileNotFoundError when files are missing and cannot be fetched, ValueError when one is damaged.
    """
    return _idx_dataset(_MNIST, split, transform)


def fashion_mnist(split: str = "train", transform=None):
    """Pieces of clothing of 28 x 28 pixels (Xiao, Rasul, Vollgraf 2017), in all else as `mnist`.

    The names of the ten classes are `FASHION_MNIST_CLASSES`.
    """
    return _idx_dataset(_FASHION_MNIST, split, transform)


def cifar10(split: str = "train", transform=None):
    """Colour photographs of 32 x 32 pixels (Krizhevsky 2009): a `TensorDataset` of images and labels.

    split    "train" (50,000) or "test" (10,000)
    images   kept as bytes, drawn as float32 (n, 3, 32, 32) in 0..1; then `transform`
    labels   (N,) int64, 0..9, named in `CIFAR10_CLASSES`

    Reads the binary version, unpacked (cifar-10-batches-bin) or as the archive cifar-10-binary.tar.gz; never the python
    version, which is a pickle. Raises FileNotFoundError when files are missing and cannot be fetched, ValueError when
    one is damaged.
    """
    _check_split("cifar10", split, ("train", "test"))
    names = ["test_batch.bin"] if split == "test" else [f"data_batch_{i}.bin" for i in range(1, 6)]
    files = [_find(_CIFAR10, f"cifar-10-batches-bin/{name}", name) for name in names]
    if None in files:
        (archive,) = _obtain(_CIFAR10, ["cifar-10-binary.tar.gz"])
        contents = _members(archive, [f"cifar-10-batches-bin/{name}" for name in names])
    else:
        contents = []
        for file in files:
            with open(file, "rb") as stream:
                contents.append((file, _read(stream, _CIFAR_FILE + 1)))
    parts = []
    for name, data in contents:
        if len(data) != _CIFAR_FILE:
            found = f"{len(data):,}" if len(data) < _CIFAR_FILE else "more"
            raise ValueError(f"{name} is damaged or truncated: expected {_CIFAR_FILE:,} bytes, found {found}")
        parts.append(parse_cifar(data, name))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    return _bytes_dataset(images, labels, transform)


def _members(archive, names):
    """(name, contents) of some files in a tar archive, in one pass over it; nothing is unpacked to disk."""
    import tarfile

    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name in names and member.isfile():
                    found[member.name] = _read(tar.extractfile(member), _CIFAR_FILE + 1)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{archive} is damaged or truncated ({error}); delete it and fetch it again") from None
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{archive} is another archive: expected {', '.join(missing)} in it, found {len(found)} of them"
        )
    return [(f"{archive}/{name}", found[name]) for name in names]


def tiny_shakespeare() -> str:
    """About a million characters from Shakespeare's plays, the usual text for small character models.

    Raises FileNotFoundError when the file is missing and cannot be fetched, ValueError when it is not the official one.
    """
    path = data_folder() / "tinyshakespeare.txt"
    if not path.is_file():
        path = _find(_TINY_SHAKESPEARE, "tinyshakespeare.txt") or _obtain(_TINY_SHAKESPEARE, ["input.txt"])[0]
    data = path.read_bytes()
    found, expected = hashlib.sha256(data).hexdigest(), _TINY_SHAKESPEARE.sha256["input.txt"]
    if found != expected:
        raise ValueError(
            f"{path} is not the official text: expected 1,115,394 bytes with sha256 {expected[:16]}..., "
            f"found {len(data):,} bytes with {found[:16]}...; delete it and fetch it again"
        )
    return data.decode("ascii")
