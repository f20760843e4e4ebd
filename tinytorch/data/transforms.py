# Generated from modules/08_dataloader/08_dataloader.py by `tito export`. To change this file, edit the lesson and export again.
"""Changes to images on their way into a batch: normalised, mirrored, cropped at random.

Every transform works on a whole batch (N, C, H, W) at once; a random one still decides for each image separately.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinytorch.core.tensor import Tensor, from_numpy
from tinytorch.data.loader import batch_generator


class Transform:
    """One change to an image (H, W) or (C, H, W), or to every image of a batch (N, C, H, W).

    Arrays give arrays and tensors give tensors (without history); the input is left as it was. A subclass defines
    `apply(batch, rng)`, which gets and returns arrays (N, C, H, W); a random one draws from `batch_generator(rng)`.
    """

    def __call__(self, images, rng=None):
        array = images.data if isinstance(images, Tensor) else images
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{self!r} needs an array or a tensor, got {type(images).__name__}")
        if array.ndim not in (2, 3, 4):
            raise ValueError(f"{self!r} needs images (H, W), (C, H, W) or (N, C, H, W), got shape {array.shape}")
        missing = 4 - array.ndim
        out = self.apply(array.reshape((1,) * missing + array.shape), rng)
        out = out.reshape(out.shape[missing:])
        return from_numpy(out) if isinstance(images, Tensor) else out

    def apply(self, batch, rng=None):
        raise NotImplementedError(f"{type(self).__name__} must define apply(batch, rng) for arrays (N, C, H, W)")

    def __repr__(self):
        return f"{type(self).__name__}()"


class Compose:
    """Several transforms, one after the other; plain functions of an image array are welcome among them."""

    def __init__(self, transforms):
        self.transforms = list(transforms)
        for transform in self.transforms:
            if not callable(transform):
                raise TypeError(f"Compose needs transforms it can call, got {type(transform).__name__}")

    def __call__(self, images, rng=None):
        for transform in self.transforms:
            takes_rng = isinstance(transform, (Transform, Compose))
            images = transform(images, rng) if takes_rng else transform(images)
        return images

    def __repr__(self):
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


class Normalize(Transform):
    """(x - mean) / std, channel by channel; float images in, float images out.

    mean, std   a number, or one per channel (C,); std > 0
    """

    def __init__(self, mean, std):
        self.mean = np.asarray(mean, dtype=np.float32).reshape(-1, 1, 1)
        self.std = np.asarray(std, dtype=np.float32).reshape(-1, 1, 1)
        if not (self.std > 0).all():
            raise ValueError(f"Normalize needs std > 0, got {std}")

    def apply(self, batch, rng=None):
        if batch.dtype.kind != "f":
            raise TypeError(f"{self!r} needs floating images, got {batch.dtype}; put ToTensor() before it")
        C = batch.shape[1]
        if len(self.mean) not in (1, C) or len(self.std) not in (1, C):
            raise ValueError(f"{self!r} has {max(len(self.mean), len(self.std))} channels, the images have {C}")
        return (batch - self.mean) / self.std

    def __repr__(self):
        return f"Normalize({self.mean.ravel().tolist()}, {self.std.ravel().tolist()})"


class ToTensor(Transform):
    """A tensor of float32 in 0..1 from bytes 0..255; floating and boolean images become float32 unscaled.

    The axes stay where they are: channels come first already.
    """

    def __call__(self, images, rng=None):
        out = super().__call__(images, rng)
        return out if isinstance(out, Tensor) else from_numpy(out)

    def apply(self, batch, rng=None):
        if batch.dtype != np.uint8 and batch.dtype.kind not in "fb":
            raise TypeError(
                f"ToTensor knows the range of uint8 (0..255), not of {batch.dtype}; divide by the largest value first"
            )
        if batch.dtype == np.uint8:
            return batch / np.float32(255)
        return batch.astype(np.float32)


class RandomHorizontalFlip(Transform):
    """Each image mirrored left to right with probability `p`."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip needs a probability 0..1, got {p}")
        self.p = p

    def apply(self, batch, rng=None):
        rng = batch_generator(rng)
        flip = rng.random(len(batch)) < self.p
        out = batch.copy()
        out[flip] = batch[flip][..., ::-1]
        return out

    def __repr__(self):
        return f"RandomHorizontalFlip({self.p})"


class RandomCrop(Transform):
    """A window of `size` at a random place of each image, after a border of `padding` zeros was put around it.

    size   (h, w), or one number for both
    """

    def __init__(self, size, padding: int = 0):
        self.size = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
        self.padding = padding
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"RandomCrop needs a size >= 1 or (h, w), got {size}")
        if padding < 0:
            raise ValueError(f"RandomCrop needs padding >= 0, got {padding}")

    def apply(self, batch, rng=None):
        rng = batch_generator(rng)
        N, C, H, W = batch.shape
        h, w = self.size
        p = self.padding
        if h > H + 2 * p or w > W + 2 * p:
            raise ValueError(f"{self!r} cannot cut {h} x {w} from images of {H} x {W} with a border of {p}")
        padded = np.zeros((N, C, H + 2 * p, W + 2 * p), batch.dtype)
        padded[:, :, p : p + H, p : p + W] = batch
        windows = sliding_window_view(padded, (h, w), axis=(2, 3))  # (N, C, places down, places across, h, w)
        top = rng.integers(0, windows.shape[2], N)
        left = rng.integers(0, windows.shape[3], N)
        return windows[np.arange(N), :, top, left]

    def __repr__(self):
        return f"RandomCrop({self.size}, padding={self.padding})"
