"""Transforms: what they do to one image and to a batch, and that each image is treated separately."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.data.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor, Transform

images = np.random.default_rng(0).random((40, 3, 6, 5), dtype=np.float32)


def crop_naive(batch, size, padding, rng):
    h, w = size
    padded = np.pad(batch, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    top = rng.integers(0, padded.shape[2] - h + 1, len(batch))
    left = rng.integers(0, padded.shape[3] - w + 1, len(batch))
    return np.stack([image[:, t : t + h, u : u + w] for image, t, u in zip(padded, top, left)])


def flip_naive(batch, p, rng):
    return np.stack([image[:, :, ::-1] if rng.random() < p else image for image in batch])


# All of them


@pytest.mark.parametrize("transform", [Normalize(0.5, 2.0), RandomHorizontalFlip(1.0), RandomCrop(4)])
@pytest.mark.parametrize("lead", [(), (3,), (7, 3)])
def test_one_image_and_batches_of_images_keep_their_axes(transform, lead):
    x = np.ones((*lead, 6, 5), np.float32)
    out = transform(x)
    assert out.shape == (*lead, 4, 4) if isinstance(transform, RandomCrop) else out.shape == x.shape
    assert type(out) is np.ndarray
    assert out.dtype == np.float32


@pytest.mark.parametrize("transform", [Normalize(0.5, 2.0), RandomHorizontalFlip(0.5), RandomCrop(4, 1)])
def test_a_tensor_gives_a_tensor_with_the_same_values(transform):
    out = transform(Tensor(images), rng=3)
    assert isinstance(out, Tensor)
    assert_close(out, transform(images, rng=3))


@pytest.mark.parametrize(
    "transform", [Normalize(0.5, 2.0), RandomHorizontalFlip(1.0), RandomCrop(6), RandomCrop((4, 5))]
)
def test_the_input_is_left_as_it_was(transform):
    x = np.ones((2, 3, 6, 6), np.float32)
    x[..., 0] = 5
    before = x.copy()
    out = transform(x)
    out[...] = -1
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("transform", [Normalize(0.0, 1.0), RandomHorizontalFlip(), RandomCrop(1), ToTensor()])
@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4, 5)])
def test_other_numbers_of_axes_are_refused(transform, shape):
    with pytest.raises(ValueError, match=r"needs images \(H, W\), \(C, H, W\) or \(N, C, H, W\), got shape"):
        transform(np.zeros(shape, np.float32))


@pytest.mark.parametrize("transform", [Normalize(0.0, 1.0), RandomHorizontalFlip(), RandomCrop(1), ToTensor()])
def test_what_is_no_array_is_refused(transform):
    with pytest.raises(TypeError, match="needs an array or a tensor, got list"):
        transform([[1.0]])


@pytest.mark.parametrize("transform", [RandomHorizontalFlip(0.5), RandomCrop(6, padding=3)])
def test_random_transforms_draw_from_the_librarys_generator_by_default(transform):
    square = np.random.default_rng(0).random((20, 1, 6, 6))
    manual_seed(4)
    first = transform(square)
    manual_seed(4)
    np.testing.assert_array_equal(transform(square), first)
    assert not np.array_equal(transform(square), first)


# Normalize and ToTensor


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation():
    assert_close(Normalize([0.5], [0.25])(np.array([[0.75, 0.25]], np.float32)), np.array([[1, -1]], np.float32))


def test_normalize_works_channel_by_channel_not_column_by_column():
    x = np.ones((2, 3, 3, 3), np.float32)
    out = Normalize([0, 1, 3], [1, 1, 2])(x)
    assert_close(out[:, :, 0, 0], np.array([[1, 0, -1]] * 2, np.float32))
    assert out.std(axis=(2, 3)).max() == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Normalize(0.0, 0.0), ValueError, "std > 0"),
        (lambda: Normalize([0, 0], [1, -1]), ValueError, "std > 0"),
        (lambda: Normalize([0, 0], 1)(images), ValueError, "has 2 channels, the images have 3"),
        (lambda: Normalize(0.5, 0.5)(images.astype(np.uint8)), TypeError, "put ToTensor"),
    ],
)
def test_normalize_refuses_what_it_cannot_mean(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_to_tensor_brings_bytes_to_0_to_1_in_float32():
    out = ToTensor()(np.array([[0, 51, 255]], np.uint8))
    assert isinstance(out, Tensor)
    assert_close(out, np.array([[0, 0.2, 1]], np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.bool_])
def test_to_tensor_leaves_the_scale_of_floats_and_booleans(dtype):
    assert_close(ToTensor()(np.array([[0, 1, 1]], dtype)), np.array([[0, 1, 1]], np.float32))


def test_to_tensor_refuses_integers_of_unknown_range():
    with pytest.raises(TypeError, match="not of int64"):
        ToTensor()(np.array([[1, 2]]))


# Flip


@pytest.mark.parametrize(("p", "expected"), [(1.0, [[3, 2, 1]]), (0.0, [[1, 2, 3]])])
def test_flip_mirrors_left_and_right(p, expected):
    assert RandomHorizontalFlip(p)(np.array([[1, 2, 3]])).tolist() == expected


def test_flip_does_not_turn_images_upside_down():
    assert RandomHorizontalFlip(1.0)(np.array([[1, 2], [3, 4]])).tolist() == [[2, 1], [4, 3]]


def test_flip_is_the_naive_loop_with_the_same_draws():
    got = RandomHorizontalFlip(0.3)(images, rng=1)
    np.testing.assert_array_equal(got, flip_naive(images, 0.3, np.random.default_rng(1)))


def test_flip_decides_for_each_image_of_a_batch():
    many = np.tile(np.arange(4.0), (4000, 1, 1, 1))
    mirrored = RandomHorizontalFlip(0.25)(many, rng=0)[:, 0, 0, 0] == 3
    assert 0.2 < mirrored.mean() < 0.3


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_flip_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=r"probability 0\.\.1"):
        RandomHorizontalFlip(p)


# Crop


@pytest.mark.parametrize(("size", "padding"), [((6, 5), 2), ((3, 2), 0), ((4, 5), 1), ((10, 9), 2)])
def test_crop_is_the_naive_loop_with_the_same_draws(size, padding):
    got = RandomCrop(size, padding)(images, rng=5)
    np.testing.assert_array_equal(got, crop_naive(images, size, padding, np.random.default_rng(5)))


def test_crop_reaches_every_place_equally_often():
    spot = np.zeros((9000, 1, 3, 3), np.float32)
    spot[:, :, 1, 1] = 1
    out = RandomCrop(3, padding=1)(spot, rng=0)
    assert out.sum() == 9000
    assert 900 < out.sum(axis=0).min() <= out.sum(axis=0).max() < 1100


def test_crop_of_the_whole_image_changes_nothing():
    np.testing.assert_array_equal(RandomCrop((6, 5))(images), images)


def test_crop_keeps_the_dtype():
    assert RandomCrop(2, padding=1)(np.ones((4, 1, 3, 3), np.uint8)).dtype == np.uint8


def test_crop_moves_all_channels_of_an_image_together():
    same = np.repeat(images[:, :1], 3, axis=1)
    out = RandomCrop(4, padding=1)(same, rng=0)
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    np.testing.assert_array_equal(out[:, 0], out[:, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RandomCrop(0), "size >= 1"),
        (lambda: RandomCrop((2, 3, 4)), "size >= 1 or"),
        (lambda: RandomCrop(3, padding=-1), "padding >= 0"),
        (lambda: RandomCrop(8, padding=1)(images), "cannot cut 8 x 8 from images of 6 x 5 with a border of 1"),
    ],
)
def test_crop_refuses_windows_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Compose


def test_compose_applies_transforms_in_order():
    out = Compose([ToTensor(), Normalize(0.5, 0.5)])(np.array([[0, 255]], np.uint8))
    assert_close(out, np.array([[-1, 1]], np.float32))


def test_compose_hands_its_generator_to_the_random_ones_and_nothing_to_functions():
    steps = Compose([RandomCrop(6, padding=1), lambda x: x * 2, Compose([RandomHorizontalFlip(0.5)])])
    square = np.random.default_rng(0).random((10, 1, 6, 6))
    rng = np.random.default_rng(8)
    expected = flip_naive(crop_naive(square, (6, 6), 1, rng) * 2, 0.5, rng)
    np.testing.assert_array_equal(steps(square, rng=np.random.default_rng(8)), expected)


def test_compose_refuses_what_it_cannot_call():
    with pytest.raises(TypeError, match="transforms it can call, got int"):
        Compose([ToTensor(), 3])


def test_a_transform_of_ones_own_sees_batches():
    class Invert(Transform):
        def apply(self, batch, rng=None):
            assert batch.ndim == 4
            return 1 - batch

    assert Invert()(np.array([[0.0, 1.0]])).tolist() == [[1, 0]]


def test_printing_says_what_a_transform_does():
    steps = Compose([ToTensor(), Normalize(0.5, 0.25), RandomCrop(8, 1), RandomHorizontalFlip(0.5)])
    assert repr(steps) == (
        "Compose([ToTensor(), Normalize([0.5], [0.25]), RandomCrop((8, 8), padding=1), RandomHorizontalFlip(0.5)])"
    )
