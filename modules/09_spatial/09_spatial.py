# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# 09 · Images: the same few weights at every place

| | |
|---|---|
| **You have** | tensors, layers, losses, gradients, optimizers, a training loop and real digits (modules 01 to 08) |
| **You will build** | convolution in one and two dimensions, its transpose, three kinds of pooling, batch normalization, each as one fused operation with its gradient |
| **You will be able to** | say why images need layers of their own, work out every size and every gradient by hand, and read what a convolution costs in memory and time |

Needs modules 01 to 08. Exports `core/spatial.py`. Hard in the middle; about eight hours.

```
   image                 kernel: 9 weights           one number at every stop
   . . . . . . .
   . [. . .] . .         [ w w w ]                    . . . . .
   . [. x .] . .    *    [ w w w ]      ---->         . y . . .        y = sum of pixel * weight
   . [. . .] . .         [ w w w ]                    . . . . .
   . . . . . . .                                      . . . . .

   a network that sees:   convolution  ->  batch norm  ->  relu  ->  pooling  ->  ...  ->  linear
```
"""

# %%
#| default_exp core.spatial

# %%
#| export
"""Layers for images and signals: convolution, its transpose, pooling, batch normalization.

Images are (N, C, H, W): batch, channels, rows, columns; signals (N, C, L). Every operation is one fused step with its
gradient rule beside it.

Convolutions of all kinds are three array functions over one `_Sweep`: `_correlate` reads patches and multiplies by the
kernels, `_scatter` is its adjoint, `_weigh` is its derivative by the kernels.
"""

import math

import numpy as np

from tinytorch.core.autograd import Function
from tinytorch.core.layers import Module, kaiming_uniform
from tinytorch.core.tensor import Tensor, floating, floats, from_numpy, generator, result

# %%
import functools
import io
import time
import tracemalloc
from contextlib import redirect_stdout

import matplotlib.pyplot as plt

from tito import pictures
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import gradcheck, no_grad
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import Trainer
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader

np.set_printoptions(precision=3, suppress=True)
train, test = digits(split="train"), digits(split="test")

# %% [markdown]
"""
## A digit, one pixel to the right

Module 08 ended with a network that reads digits. It was made of `Linear` layers, and before the first of them the image
was flattened: 64 numbers in a row. What does such a network know about images? Move every test image by one or two
pixels, which no reader would notice, and ask again.
"""


# %%
def moved(images, right):
    """Images (N, C, H, W) moved by `right` pixels; what leaves is lost, what comes in is paper."""
    out = np.zeros_like(images)
    source = images[..., max(0, -right) : images.shape[3] - max(0, right)]
    out[..., max(0, right) : images.shape[3] - max(0, -right)] = source
    return out


def trained(model, epochs=6):
    trainer = Trainer(model, Adam(model, lr=0.01), CrossEntropyLoss())
    with redirect_stdout(io.StringIO()):
        trainer.fit(DataLoader(train, batch_size=64, shuffle=True, seed=0), epochs)
    return model.eval()


def read_moved(model):
    images, labels = test.tensors
    accuracies = []
    for right in (-2, -1, 0, 1, 2):
        with no_grad():
            answers = model(from_numpy(moved(images.data, right))).data.argmax(axis=1)
        accuracies.append((answers == labels.data).mean())
    return " ".join(f"{accuracy:7.1%}" for accuracy in accuracies)


manual_seed(0)
flat_network = trained(Sequential(Flatten(), Linear(64, 64), ReLU(), Linear(64, 10)))
print("pixels to the right                     -2      -1       0       1       2")
print(f"two linear layers, {flat_network.num_parameters()} weights   ", read_moved(flat_network))

# %% [markdown]
"""
One pixel, and it misreads more than half of them; two, and it guesses. It has learnt 64 unrelated inputs. That pixel
28 is a neighbour of pixel 29 is nowhere in the network: shuffle all pixels in the same way, and it would learn just as
well. And it does not scale. For a photograph of 224 x 224 pixels in three colours, one `Linear` layer to 1000 numbers
needs:
"""

# %%
pixels = 3 * 224 * 224
print(f"{pixels:,} inputs * 1000 outputs = {pixels * 1000 / 1e6:.0f} million weights, {pixels * 4000 / 1e6:.0f} MB")
print(f"64 kernels of 3 x 3 pixels and 3 colours = {64 * 3 * 9:,} weights")

# %% [markdown]
"""
Three facts about images suggest another layer. What belongs together is *near*: an edge, a corner, an eye can be
recognized in a small window. What is worth recognizing at one place is worth recognizing at *every* place, with the same
weights. And if the image moves, the answer should *move along*. A small window of weights that slides over the image has
all three properties, and a `Linear` layer none.

## A kernel on its way, by hand

A 5 x 5 image, bright on the right, and a kernel of 3 x 3 weights. Lay the kernel on the upper left corner, multiply each
weight by the pixel under it, add up: one number. Move one pixel to the right, again. There are three places in each
direction:

```
   image               kernel            at the first stop                  all stops
   0 0 0 9 9          -1  0  1       0*-1 + 0*0 + 0*1                      0  36  36
   0 0 0 9 9          -2  0  2     + 0*-2 + 0*0 + 0*2    =   0             0  36  36
   0 0 0 9 9          -1  0  1     + 0*-1 + 0*0 + 0*1                      0  36  36
   0 0 0 9 9
   0 0 0 9 9                         one to the right:
                                     9*1 + 9*2 + 9*1     =  36
```

The kernel answers where it gets brighter from left to right, and with how much. Nobody has to design it: its nine
numbers are weights, and training finds them.

A colour image has three channels, and a kernel then has 3 x 3 x 3 weights: the sum runs over channels too. And one
kernel is not enough; F kernels give F answers at every stop, which are the channels of the next image. As loops:

```
   out[n, f, i, j] = bias[f] + sum over c, k, l of  x[n, c, i + k, j + l] * weight[f, c, k, l]
```

(Mathematicians call this *correlation*; their convolution turns the kernel upside down first. Every deep-learning
library leaves it as it is and calls it convolution all the same.)
"""


# %%
def naive_conv2d(x, weight, bias):
    """Seven loops: the definition, and the judge of everything that follows."""
    N, C, H, W = x.shape
    F, _, KH, KW = weight.shape
    out = np.zeros((N, F, H - KH + 1, W - KW + 1), x.dtype)
    for n in range(N):
        for f in range(F):
            for i in range(H - KH + 1):
                for j in range(W - KW + 1):
                    for c in range(C):
                        for k in range(KH):
                            for l in range(KW):
                                out[n, f, i, j] += x[n, c, i + k, j + l] * weight[f, c, k, l]
                    out[n, f, i, j] += bias[f]
    return out


step = np.zeros((1, 1, 5, 5), np.float32)
step[..., 3:] = 9
sobel = np.array([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]], np.float32)
print(naive_conv2d(step, sobel, np.zeros(1, np.float32))[0, 0])

# %% [markdown]
"""
## How many stops?

The image had 5 pixels, the kernel 3, and there were 3 stops: 5 - 3 + 1. Three knobs change that.

```
   padding 1: zeros around          stride 2: every second stop        dilation 2: holes in the kernel

   0 [0 0] 0 0 0 0 0                [x x x] x x x x                    [x . x . x] x x
   0 [x x] x x x x 0                 x x [x x x] x x                    reaches over 5 pixels with 3 weights
   0  x x  x x x x 0                 x x x x [x x x]
```

*Padding* lets the kernel stop at the border too: with 1 all around, a 3 x 3 kernel keeps the size of the image. *Stride*
makes the result smaller, and the work too. *Dilation* sees far with few weights. A kernel of `kernel` weights with
dilation d reaches over `d * (kernel - 1) + 1` pixels. The first stop is where its left end stands on the left end of the
padded image; how many strides fit until its right end meets the right end?

**Write `_stops`.** `padding` counts both ends together.

- `_stops(5, 3)` is 3, `_stops(5, 3, padding=2)` is 5
- `_stops(7, 3, stride=2)` is 3, and so is `_stops(8, 3, stride=2)`: the last pixel is never reached
- `_stops(7, 3, dilation=2)` is 3

<details><summary>Hint 1</summary>

Work out the reach first. With reach 5 on 7 pixels, the right end can move by 2 pixels.
</details>
<details><summary>Hint 2</summary>

`length + padding - reach` pixels are left for moving; `// stride` says how many moves fit.
</details>
<details><summary>Hint 3</summary>

Moves are not stops: there is one stop more, the first.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-stops", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _stops(length, kernel, stride=1, padding=0, dilation=1):
    """At how many places a kernel stops along an axis of `length` pixels, with `padding` more at both ends together."""
    ### BEGIN SOLUTION
    reach = dilation * (kernel - 1) + 1
    return (length + padding - reach) // stride + 1
    ### END SOLUTION


# %%
print(_stops(5, 3), _stops(5, 3, padding=2), _stops(7, 3, stride=2), _stops(8, 3, stride=2), _stops(7, 3, dilation=2))
print("the first layer of ResNet, 7 x 7, stride 2, padding 3 on 224 pixels:", _stops(224, 7, 2, 6))

# %% [markdown]
"""
## From seven loops to one product

Each output is a sum of products, and we have something that computes sums of products fast: the matrix product. What
has to stand in the matrices? A row of the first matrix is a kernel, written out flat. A column of the second has to be
what that kernel meets at one stop: the *patch* under it. So copy all patches side by side. The usual name is *im2col*.

```
   image          stops            patches, one column for each stop        kernels          out

   1 2 3        [1 2] [2 3]            1  2  4  5                                             F rows,
   4 5 6        [4 5] [5 6]            2  3  5  6                           w0 w1 w2 w3   =   one column
   7 8 9                               4  5  7  8                           (F, C*KH*KW)      for each stop
                [4 5] [5 6]            5  6  8  9
                [7 8] [8 9]            (C*KH*KW, OH*OW)
```

Every pixel is copied up to KH * KW times. That sounds like a waste, and it is one; measured below. But it turns seven
loops into one call of the fastest routine there is.

Look at the *rows* of the patch matrix instead of its columns. The first row, 1 2 4 5, is what the upper left weight of
the kernel meets on its way. Call such a weight a *tap*. What a tap meets is the image itself, moved: one slice. So the
matrix is filled by KH * KW slices, not by OH * OW patches:
"""


# %%
def simple_patches(x, KH, KW):
    """(N, C, H, W) -> (N, C * KH * KW, OH * OW), no padding, stride 1."""
    N, C, H, W = x.shape
    OH, OW = H - KH + 1, W - KW + 1
    patches = np.empty((N, C, KH, KW, OH, OW), x.dtype)
    for i in range(KH):
        for j in range(KW):
            patches[:, :, i, j] = x[:, :, i : i + OH, j : j + OW]
    return patches.reshape(N, C * KH * KW, OH * OW)


three = np.arange(1.0, 10, dtype=np.float32).reshape(1, 1, 3, 3)
print(simple_patches(three, 2, 2)[0])

# %% [markdown]
"""
### The same, at the speed of memory

`simple_patches` is right, and it has two weaknesses. It makes the patches of the whole batch before the first product;
for real layers that is hundreds of megabytes, which travel to main memory and back. And each slice consists of rows of
OW pixels, which are copied one by one, with a little overhead for each.

Both are cured by a layout. Copy the images once, with zeros after each row. Those zeros are the right border of the row
*and* the left border of the next one, so one border is enough. Now the image is one long line, and what a tap meets, for
*all* stops of several rows, is one piece of that line:

```
   image 2 x 3, padding 1         0 0 0 0 | 0 a b c | 0 d e f | 0 0 0 0 | 0 0    pitch 4 = 3 pixels and a zero

   tap (0, 0) reads from 0        0 0 0 0   0 a b c
   tap (0, 1) reads from 1          0 0 0   0 a b c   0
   tap (1, 1) reads from 5                    a b c   0 d e f   0
   tap (2, 2) reads from 10                               e f   0 0 0 0   0 0

   out, two rows of pitch 4       y y y -   y y y -       the last one of each row is no stop: dropped
```

A stride s would tear these runs apart. So for stride 2 the layout deals the pixels out into four smaller images, even
and odd rows, even and odd columns, and inside each of them the taps walk in single steps again.

And the work is done in *blocks*: some images, or some rows of one image, so many that their patches fill a megabyte and
stay in the processor's cache until the product has used them.

All this bookkeeping is in `_Sweep`, which is given. You need four things of it: `lay_out(x)` makes the layout and
`pick_up` is the way back; `blocks()` lists the blocks; `size(block)` is its number of images, rows and the pitch; and
`taps(flat, block)` yields, for each tap, `i, j, run`, where `run` is a *view* of shape `(n, C, rows * pitch)`.
"""


# %%
#| export
def _per_axis(who, name, value, axes, least):
    """`value`, one whole number or one for each axis, as a tuple of `axes` integers."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(given) != axes:
        raise ValueError(f"{who} needs {name} as one number or {axes}, got {value!r}")
    for n in given:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"{who} needs {name} in whole numbers, got {value!r}")
        if n < least:
            raise ValueError(f"{who} needs {name} of at least {least}, got {value!r}")
    return tuple(int(n) for n in given)


def _borders(who, padding, kernel, stride, dilation):
    """`padding` as (before, after) for each axis. "same" keeps the size, with the odd pixel after; "valid" is none."""
    axes = len(kernel)
    if padding == "valid":
        padding = 0
    if padding == "same":
        if max(stride) > 1:
            raise ValueError(f"{who} can keep the size with padding='same' only at stride 1, got stride {stride}")
        totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return [(total // 2, total - total // 2) for total in totals]
    if isinstance(padding, str):
        raise ValueError(f"{who} needs padding in numbers, 'same' or 'valid', got {padding!r}")
    return [(n, n) for n in _per_axis(who, "padding", padding, axes, 0)]


class _Sweep:
    """The way of a kernel over a batch of images: where it stops, and what its taps read there.

    image   (N, C, H, W)             stops  (OH, OW)         both of the image that the kernel is swept over
    weight  (F, C / groups, KH, KW)

    A kernel has KH * KW taps. `lay_out` copies the images so that each tap reads long runs of memory: every row is
    followed by `pitch` - W zeros, which serve as its right border and as the left border of the next row. Then tap
    (i, j) reads, for all stops of several rows, one run that starts i rows and j pixels later. With stride s the images
    are dealt out into s * s smaller ones, every s-th row and column, in which the taps move by single pixels again.

    The columns of a run beyond OW belong to no stop; what is computed there is dropped.
    """

    def __init__(self, image, weight, stops, stride, borders, dilation, groups):
        self.image, self.weight, self.stops = image, weight, stops
        self.stride, self.dilation, self.groups = stride, dilation, groups
        (top, bottom), (left, right) = borders
        self.corner = top, left
        _, C, H, W = image
        _, _, KH, KW = weight
        OH, OW = stops
        self.rows = -(-(H + top + bottom) // stride[0])
        self.pitch = max(-(-(W + max(left, right)) // stride[1]), OW)
        self.length = self.rows * self.pitch + dilation[1] * (KW - 1) // stride[1]
        columns = max(256, (1 << 18) // (C * KH * KW))  # per block: a megabyte of patches, which stays in the cache
        self.batch = max(1, columns // max(1, OH * self.pitch))
        self.band = -(-OH // -(-OH * self.pitch // max(columns, self.pitch))) if OH else 1

    def lay_out(self, x):
        """(N, C, H, W) -> (N, C, sh, sw, length), zeros around"""
        flat = self.empty_layout(x)
        for part, rows, columns in self._parts(flat):
            part[...] = x.reshape(self.image)[:, :, rows, columns]
        return flat

    def pick_up(self, flat):
        """The images out of their layout; pixels that no tap reads are 0."""
        x = np.zeros_like(flat, shape=self.image)
        for part, rows, columns in self._parts(flat):
            x[:, :, rows, columns] = part
        return x

    def empty_layout(self, like):
        return np.zeros_like(like, shape=(*self.image[:2], *self.stride, self.length))

    def _parts(self, flat):
        """Each sub-image that some tap reads: a view of it in the layout, and its rows and columns in the image."""
        planes = flat[..., : self.rows * self.pitch].reshape(*flat.shape[:4], self.rows, self.pitch)
        for a, rows, rows_inside in self._phases(0):
            for b, columns, columns_inside in self._phases(1):
                yield planes[:, :, a, b, rows_inside, columns_inside], rows, columns

    def _phases(self, axis):
        """Along one axis: (number of the sub-image, its pixels in the image, its pixels in the layout)."""
        length, step, border = self.image[2 + axis], self.stride[axis], self.corner[axis]
        for phase in sorted({k * self.dilation[axis] % step for k in range(self.weight[2 + axis])}):
            first = (phase - border) % step
            start = (first + border) // step
            yield phase, slice(first, None, step), slice(start, start + len(range(first, length, step)))

    def blocks(self):
        """The work in pieces, (images, rows of stops) as slices; the patches of one fit into the cache."""
        for n in range(0, self.image[0], self.batch):
            for row in range(0, self.stops[0], self.band):
                yield slice(n, min(n + self.batch, self.image[0])), slice(row, min(row + self.band, self.stops[0]))

    def size(self, block):
        """(images, rows, pitch) of a block"""
        images, rows = block
        return images.stop - images.start, rows.stop - rows.start, self.pitch

    def taps(self, flat, block):
        """For each tap (i, j): i, j, and what it reads at the stops of a block, a view (n, C, rows * pitch) of flat."""
        images, rows = block
        for i in range(self.weight[2]):
            for j in range(self.weight[3]):
                y, a = divmod(i * self.dilation[0], self.stride[0])
                x, b = divmod(j * self.dilation[1], self.stride[1])
                start = (rows.start + y) * self.pitch + x
                stop = start + (rows.stop - rows.start) * self.pitch
                yield i, j, flat[images, :, a, b, start:stop]

    def room(self, like, height):
        """A buffer for `height` rows of the columns of any block."""
        return np.zeros_like(like, shape=height * self.batch * self.band * self.pitch)


def _front(buffer, *shape):
    """The first elements of a buffer, as an array of `shape`."""
    return buffer[: math.prod(shape)].reshape(shape)


# %% [markdown]
"""
**Write the heart of `_patches`**: copy what every tap reads into its row. `patches` has the shape
`(C, KH, KW, n, rows * pitch)` and lies in a buffer that is used again for every block.

For the 2 x 3 image above, tap (0, 1) reads `0 0 0 0 a b c 0`; the cell below prints it with a to f = 1 to 6.

<details><summary>Hint 1</summary>

One loop over `sweep.taps(flat, block)`, with one assignment in it.
</details>
<details><summary>Hint 2</summary>

The row of tap (i, j) is `patches[:, i, j]`, of shape `(C, n, rows * pitch)`. The run has images before channels.
</details>
<details><summary>Hint 3</summary>

`run.swapaxes(0, 1)` puts channels first. A `reshape` would give the right shape too, and mix pixels of different images.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-patches", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _patches(sweep, flat, block, buffer):
    """What every tap reads at every stop of a block, in `buffer`: (groups, C / groups * KH * KW, n * rows * pitch)."""
    n, rows, pitch = sweep.size(block)
    C, (KH, KW) = sweep.image[1], sweep.weight[2:]
    patches = _front(buffer, C, KH, KW, n, rows * pitch)
    ### BEGIN SOLUTION
    for i, j, run in sweep.taps(flat, block):
        patches[:, i, j] = run.swapaxes(0, 1)
    ### END SOLUTION
    return patches.reshape(sweep.groups, -1, n * rows * pitch)


# %%
small = np.arange(1.0, 7, dtype=np.float32).reshape(1, 1, 2, 3)
sweep = _Sweep(small.shape, (1, 1, 3, 3), (2, 3), (1, 1), [(1, 1), (1, 1)], (1, 1), 1)
line = sweep.lay_out(small)
print("pitch", sweep.pitch, "  layout", line.ravel().astype(int))
for block in sweep.blocks():
    rows = _patches(sweep, line, block, sweep.room(small, 9))[0].astype(int)
    for (i, j), row in zip(np.ndindex(3, 3), rows):
        print(f"tap ({i}, {j})", row)

# %% [markdown]
"""
**Write the heart of `_correlate`**: for one block, the product of kernels and patches, and where it goes. `kernels` is
`(G, F / G, C / G * KH * KW)`: with `groups` = G the channels and kernels are split into G parts that know nothing of each
other, and `np.matmul` treats the first axis as independent products. Usually G is 1.

The product goes to `sums` (`out=`, so no new memory is touched). Then it is cut: `sums` as `(F, n, rows, pitch)`, the
first OW columns of each row, images before channels. Add `shift`, which is the bias or 0, and write the sum to
`out[images, :, lines]`, where `images, lines = block`.

For the small image and nine ones as kernel, the result is `[[12, 21, 16], [12, 21, 16]]`.

<details><summary>Hint 1</summary>

`np.matmul(kernels, _patches(sweep, flat, block, room), out=sums)` is the product.
</details>
<details><summary>Hint 2</summary>

`sums.reshape(F, n, rows, pitch)[..., :OW]` drops what belongs to no stop, and `swapaxes(0, 1)` puts images first.
</details>
<details><summary>Hint 3</summary>

`np.add(sums, shift, out=out[images, :, lines])` adds and stores in one pass.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-correlate", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _correlate(sweep, x, weight, bias=None):
    """Every kernel at every stop: (N, C, H, W), (F, C / groups, KH, KW), (F,) -> (N, F, OH, OW)."""
    F, G, OW = len(weight), sweep.groups, sweep.stops[1]
    kernels = weight.reshape(G, F // G, -1)
    flat = sweep.lay_out(x)
    room, products = sweep.room(x, kernels.shape[2] * G), sweep.room(x, F)
    out = np.empty_like(x, shape=(len(x), F, *sweep.stops))
    shift = 0 if bias is None else bias[:, None, None]
    for block in sweep.blocks():
        n, rows, pitch = sweep.size(block)
        sums = _front(products, G, F // G, n * rows * pitch)
        ### BEGIN SOLUTION
        np.matmul(kernels, _patches(sweep, flat, block, room), out=sums)
        sums = sums.reshape(F, n, rows, pitch)[..., :OW].swapaxes(0, 1)
        images, lines = block
        np.add(sums, shift, out=out[images, :, lines])
        ### END SOLUTION
    return out


# %%
print(_correlate(sweep, small, np.ones((1, 1, 3, 3), np.float32))[0, 0])

# %% [markdown]
"""
## The way back

How does the loss change if weight `w[k, l]` grows a little? That weight met one pixel at every stop, and each stop has a
gradient. So its own gradient is the sum, over all stops, of pixel times gradient. By hand, with a kernel of two weights
on a row of three pixels:

```
   x = 1 2 3      y0 = 1 * w0 + 2 * w1           dw0 = 1 * g0 + 2 * g1
   w = w0 w1      y1 = 2 * w0 + 3 * w1           dw1 = 2 * g0 + 3 * g1        rows of the patch matrix, times g

                                                 dx0 = w0 * g0
   g = g0 g1                                     dx1 = w1 * g0 + w0 * g1      read twice, so it adds up
                                                 dx2 =           w1 * g1
```

For the weights this is again a product: patches `(C*KH*KW, stops)` times gradient `(stops, F)`. The patches of the
forward pass are gone by now, and that is on purpose: they would be nine times as large as the image, and making them again from
the image costs a small part of the product.

`_at_stops` brings the gradient into the same order as the patches, `(G, F / G, n * rows * pitch)`, with zeros where the
columns belong to no stop.

**Write the heart of `_weigh`**: over all blocks, add up `patches @ (gradient at the stops, transposed)`.

With x = 1 2 3 and g = 1 10, dw is `[21, 32]`.

<details><summary>Hint 1</summary>

`_patches(sweep, flat, block, pixels)` and `_at_stops(sweep, grad, block, slopes)` are the factors; both start with the
axis of the groups.
</details>
<details><summary>Hint 2</summary>

Transposing means `swapaxes(1, 2)` here: (G, F / G, stops) becomes (G, stops, F / G).
</details>
<details><summary>Hint 3</summary>

`total += ...`, not `=`: each block knows only its own stops.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-weigh", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _at_stops(sweep, grad, block, buffer):
    """What (N, F, OH, OW) holds at the stops of a block, zeros beyond OW: (groups, F / groups, n * rows * pitch)."""
    n, rows, pitch = sweep.size(block)
    F, G, (images, lines) = sweep.weight[0], sweep.groups, block
    spread = _front(buffer, F, n, rows, pitch)
    spread[..., : sweep.stops[1]] = grad[images, :, lines].swapaxes(0, 1)
    return spread.reshape(G, F // G, -1)


def _weigh(sweep, x, grad):
    """The derivative by the weight: each number of a kernel met one pixel at each stop; sum pixel * grad."""
    F, C, KH, KW = sweep.weight
    G = sweep.groups
    flat = sweep.lay_out(x)
    pixels, slopes = sweep.room(x, G * C * KH * KW), sweep.room(x, F)
    total = np.zeros_like(x, shape=(G, C * KH * KW, F // G))
    ### BEGIN SOLUTION
    for block in sweep.blocks():
        patches = _patches(sweep, flat, block, pixels)
        total += patches @ _at_stops(sweep, grad, block, slopes).swapaxes(1, 2)
    ### END SOLUTION
    return total.swapaxes(1, 2).reshape(sweep.weight)


# %% [markdown]
"""
For the image, turn every arrow around. In the forward pass a tap *read* a run of pixels. Now it *adds* to that run what
the stops have for it: `w * g`. In one product, `kernels^T @ gradient` gives a number for each tap at each stop (a matrix
shaped like the patches), and then KH * KW additions of slices put them where the pixels came from. (The usual name is
*col2im*.)

What does `run[:] = ...` do instead of `run += ...`? Pixels under several taps keep only the last one: nothing crashes,
shapes are right, and the network learns badly.

**Write the heart of `_scatter`**, for one block. `kernels` is transposed already; `shares` is the buffer for the product.
Then view it as `(G * C, KH, KW, n, rows * pitch)` (here C counts the channels of one group) and add.

With w = 1 2 and g = 1 10 on a row of three pixels, dx is `[1, 12, 20]`.

<details><summary>Hint 1</summary>

The product is `np.matmul(kernels, _at_stops(sweep, grad, block, slopes), out=shares)`.
</details>
<details><summary>Hint 2</summary>

The loop is that of `_patches`, with the assignment turned around: from `shares[:, i, j]` to `run`.
</details>
<details><summary>Hint 3</summary>

`run` is a view of the layout, so `run += shares[:, i, j].swapaxes(0, 1)` writes into it.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-scatter", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _scatter(sweep, grad, weight):
    """The adjoint of `_correlate`: each stop shares its number out over the pixels it read. Returns (N, C, H, W)."""
    F, C, KH, KW = sweep.weight
    G = sweep.groups
    kernels = weight.reshape(G, F // G, -1).swapaxes(1, 2)
    flat = sweep.empty_layout(grad)
    slopes, products = sweep.room(grad, F), sweep.room(grad, G * C * KH * KW)
    for block in sweep.blocks():
        n, rows, pitch = sweep.size(block)
        shares = _front(products, G, C * KH * KW, n * rows * pitch)
        ### BEGIN SOLUTION
        np.matmul(kernels, _at_stops(sweep, grad, block, slopes), out=shares)
        shares = shares.reshape(G * C, KH, KW, n, rows * pitch)
        for i, j, run in sweep.taps(flat, block):
            run += shares[:, i, j].swapaxes(0, 1)
        ### END SOLUTION
    return sweep.pick_up(flat)


# %%
row, taps = np.array([[[[1.0, 2, 3]]]], np.float32), np.array([[[[1.0, 2]]]], np.float32)
slopes = np.array([[[[1.0, 10]]]], np.float32)
way = _Sweep(row.shape, taps.shape, (1, 2), (1, 1), [(0, 0), (0, 0)], (1, 1), 1)
print("dw", _weigh(way, row, slopes).ravel(), "  dx", _scatter(way, slopes, taps).ravel())

# %% [markdown]
"""
## conv2d

What remains is to check the shapes, to make the sweep and to announce the result. It is given; read the errors, for you
will meet them. A signal `(N, C, L)` is an image of one row, so `conv1d` costs three lines.
"""

# %%
#| export
_AXES = {1: "(N, C, L)", 2: "(N, C, H, W)"}


def _operands(op, axes, x, weight, bias):
    """Images, kernels and bias as floating tensors of one dtype, with the right number of axes."""
    x, weight, *bias = floats(x, weight) if bias is None else floats(x, weight, bias)
    if x.ndim != axes + 2:
        advice = "; for a single one use x.unsqueeze(0)" if x.ndim == axes + 1 else ""
        raise ValueError(f"{op} needs inputs {_AXES[axes]}, got shape {x.shape}{advice}")
    if weight.ndim != axes + 2 or 0 in weight.shape:
        raise ValueError(f"{op} needs a weight of {axes + 2} axes, none of them empty, got shape {weight.shape}")
    return x, weight, *bias


def _check_bias(op, bias, count):
    for b in bias:
        if b.shape != (count,):
            raise ValueError(f"{op} needs a bias ({count},), one for each output channel, got shape {b.shape}")


def _lifted(values, axes, fill):
    """Settings for two axes from settings for one: a signal is an image of one row."""
    return tuple(values) if axes == 2 else (fill, *values)


def _convolve(op, axes, x, weight, bias, stride, padding, dilation, groups):
    x, weight, *bias = _operands(op, axes, x, weight, bias)
    (N, C, *lengths), (F, inner, *kernel) = x.shape, weight.shape
    stride = _per_axis(op, "stride", stride, axes, 1)
    dilation = _per_axis(op, "dilation", dilation, axes, 1)
    (groups,) = _per_axis(op, "groups", groups, 1, 1)
    borders = _borders(op, padding, kernel, stride, dilation)
    if C % groups or F % groups:
        raise ValueError(f"{op} with groups={groups} needs channels divisible by {groups}, got {C} in and {F} out")
    if inner * groups != C:
        raise ValueError(
            f"{op} with a weight {weight.shape} and groups={groups} needs inputs of {inner * groups} channels, "
            f"got {C} in shape {x.shape}"
        )
    _check_bias(op, bias, F)
    for i, (n, k, (before, after), d) in enumerate(zip(lengths, kernel, borders, dilation), 2):
        if d * (k - 1) + 1 > n + before + after:
            raise ValueError(
                f"{op}: a kernel that reaches over {d * (k - 1) + 1} does not fit into {n} + {before + after} of "
                f"padding along axis {i} of {x.shape}; use a smaller kernel or more padding"
            )
    stops = [_stops(n, k, s, sum(b), d) for n, k, s, b, d in zip(lengths, kernel, stride, borders, dilation)]
    sweep = _Sweep(
        (N, C, *_lifted(lengths, axes, 1)),
        (F, inner, *_lifted(kernel, axes, 1)),
        _lifted(stops, axes, 1),
        _lifted(stride, axes, 1),
        _lifted(borders, axes, (0, 0)),
        _lifted(dilation, axes, 1),
        groups,
    )
    out = _correlate(sweep, x.data, weight.data, *(b.data for b in bias))
    return result(out.reshape(N, F, *stops), op, x, weight, *bias, sweep=sweep)


def conv2d(x: Tensor, weight: Tensor, bias=None, stride=1, padding=0, dilation=1, groups: int = 1) -> Tensor:
    """Slide kernels over images; at every stop, take the sum of pixel * weight under the kernel. Nothing is flipped.

    x         (N, C, H, W)
    weight    (F, C / groups, KH, KW)   F kernels; with groups, channels and kernels are split into independent parts
    bias      (F,) or None
    stride    pixels from one stop to the next
    padding   zeros around the image; "same" (as many as keep H and W, at stride 1), "valid" (none)
    dilation  distance between neighbouring taps of the kernel
    returns   (N, F, OH, OW) with OH = (H + 2 * padding - dilation * (KH - 1) - 1) // stride + 1

    stride, padding and dilation are one number or a pair (rows, columns). Raises ValueError where shapes do not fit.
    """
    return _convolve("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv1d(x: Tensor, weight: Tensor, bias=None, stride=1, padding=0, dilation=1, groups: int = 1) -> Tensor:
    """`conv2d` along one axis: (N, C, L), (F, C / groups, K) -> (N, F, OL)."""
    return _convolve("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


# %% [markdown]
"""
And the rule. `self.needs` says whose gradient is asked for: the images of the first layer need none, and not computing
it saves a third of that layer's work.

**Write `Conv2dBackward.backward`**: three gradients, and `None` for what nobody needs. The bias was added at every stop
of every image.

With an image of ones (1, 1, 4, 4), a kernel of ones (1, 1, 3, 3) and the gradient 1 everywhere: dweight is 4 everywhere,
dbias is 4, and dx is 1 in the corners and 4 in the middle.

<details><summary>Hint 1</summary>

`_scatter(sweep, grad, weight.data)` and `_weigh(sweep, x.data, grad)`, each reshaped to the shape of what it is the
gradient of (for signals these have one axis less).
</details>
<details><summary>Hint 2</summary>

`... if self.needs[0] else None` for the images, `self.needs[1]` for the weight.
</details>
<details><summary>Hint 3</summary>

`bias` is a list of one tensor or none: `*(grad.sum(axis=(0, 2, 3)) for _ in bias)` gives one gradient or none.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-conv2d-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Conv2dBackward(Function, op="conv2d"):
    """Linear in x and in weight: dx is the adjoint applied to grad, dweight sums pixel * grad over the stops."""

    def backward(self, grad):
        x, weight, *bias = self.inputs
        sweep = self.saved["sweep"]
        grad = grad.reshape(len(grad), sweep.weight[0], *sweep.stops)
        ### BEGIN SOLUTION
        dx = _scatter(sweep, grad, weight.data).reshape(x.shape) if self.needs[0] else None
        dweight = _weigh(sweep, x.data, grad).reshape(weight.shape) if self.needs[1] else None
        return dx, dweight, *(grad.sum(axis=(0, 2, 3)) for _ in bias)
        ### END SOLUTION


class Conv1dBackward(Conv2dBackward, op="conv1d"):
    """As for images, of one row."""


# %%
rng = np.random.default_rng(0)
ones = Tensor(np.ones((1, 1, 4, 4)), requires_grad=True)
kernel, offset = Tensor(np.ones((1, 1, 3, 3)), requires_grad=True), Tensor([0.0], requires_grad=True)
conv2d(ones, kernel, offset).sum().backward()
print("dx\n", ones.grad[0, 0], "\ndweight", kernel.grad.ravel(), "  dbias", offset.grad)

settings = {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "groups": 2}
arrays = rng.normal(size=(2, 4, 6, 7)), rng.normal(size=(2, 2, 3, 2)), rng.normal(size=2)
print("finite differences agree:", gradcheck(lambda x, w, b: conv2d(x, w, b, **settings), arrays))

# %% [markdown]
"""
Naive and fast must be the same function. And how much faster is fast?
"""


# %%
def best_time(function, repeats=5):
    """The shortest of several runs, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def by_patches(x, weight, bias):
    """The patches of the whole batch, then one product for each image."""
    (F, _, KH, KW), (N, _, H, W) = weight.shape, x.shape
    out = weight.reshape(F, -1) @ simple_patches(x, KH, KW)
    return out.reshape(N, F, H - KH + 1, W - KW + 1) + bias[:, None, None]


def layer(N, C, H, F):
    """Random images (N, C, H, H), weight (F, C, 3, 3) and bias (F,)."""
    shapes = (N, C, H, H), (F, C, 3, 3), (F,)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


x, w, b = layer(4, 3, 16, 8)
slow = best_time(lambda: naive_conv2d(x, w, b), 2)
fast = best_time(lambda: conv2d(from_numpy(x), from_numpy(w), from_numpy(b)))
np.testing.assert_allclose(conv2d(x, w, b).data, naive_conv2d(x, w, b), rtol=1e-4, atol=1e-4)
print(f"4 images of 3 x 16 x 16, 8 kernels: loops {slow:.0f} ms, fast {fast:.2f} ms, {slow / fast:.0f} times faster")

# %% [markdown]
"""
What did each idea bring? A layer as networks have it is too large for seven loops, so the ladder begins one rung higher,
with the shortest form in NumPy: `sliding_window_view` shows all patches without a copy, by strides alone, and `einsum`
adds up. Then the patches copied from that view for one product; the same copy made tap by tap; and the blocks.
"""


# %%
def by_windows(x, weight, bias):
    """A view of all patches, (N, C, OH, OW, KH, KW), and a sum over three axes of it."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,fcij->nfhw", windows, weight) + bias[:, None, None]


def by_copied_windows(x, weight, bias):
    """The same view, copied so that each patch is a column, and one product for each image."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    (N, _, OH, OW), F = windows.shape[:4], len(weight)
    patches = windows.transpose(0, 1, 4, 5, 2, 3).reshape(N, -1, OH * OW)
    return (weight.reshape(F, -1) @ patches).reshape(N, F, OH, OW) + bias[:, None, None]


def by_blocks(x, weight, bias):
    return conv2d(from_numpy(x), from_numpy(weight), from_numpy(bias)).data


x, w, b = layer(16, 32, 34, 64)
print("16 images of 32 x 34 x 34, 64 kernels        ms   times faster than the line above")
before = None
for way in (by_windows, by_copied_windows, by_patches, by_blocks):
    np.testing.assert_allclose(way(x, w, b), by_blocks(x, w, b), rtol=1e-3, atol=1e-3)
    took = best_time(functools.partial(way, x, w, b), 1 if way is by_windows else 5)
    print(f"{way.__name__:40} {took:6.1f}", f"  {before / took:.1f}" if before else "")
    before = took

# %% [markdown]
"""
## What a kernel sees

Kernels were designed by hand for fifty years before they were learnt. Four of them, on a real digit from module 08: the
darker, the larger; for the last three, white is 0, blue more and red less.
"""

# %%
image = test.tensors[0].data[:1]
kernels = {
    "mean of 9": np.full((3, 3), 1 / 9),
    "brighter to the right": sobel[0, 0],
    "brighter downwards": sobel[0, 0].T,
    "different from around": np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
}
bank = np.stack([k for k in kernels.values()])[:, None].astype(np.float32)
seen = conv2d(image, bank, padding="same").data[0]
pictures.tiles([image[0, 0], *seen], ["the digit", *kernels], together=False, size=1.8)
plt.show()
for name, picture in zip(kernels, seen):
    print(f"{name:22} from {picture.min():6.2f} to {picture.max():5.2f}")

# %% [markdown]
"""
## Back to large: the transposed convolution

Some networks must give an image back: a mask for each object, a picture from a code. They need a layer that goes from
small to large. We have written it already. `_scatter` takes numbers at the stops and gives an image: every number
stamps the kernel, times itself, onto the output, and stamps that overlap add up.

```
   x = 1 10,  kernel 1 2 3                stride 1                     stride 2

   stamp of 1                             1  2  3                      1  2  3
   stamp of 10                              10 20 30                         10 20 30
                                          1 12 23 30                   1  2 13 20 30
```

As a matrix, convolution is y = A x, and this is A^T y: the *transposed* convolution (it is no inverse: it gives back the
shape, not the image). Its size is the formula for the stops, solved for the length. But with stride 2 a length of 7 and one
of 8 lead to the same 3 stops, so `output_padding` says which one is meant. And `padding`, which made a convolution's
output larger, makes this output smaller: what the convolution read from the border was nobody's pixel.

So the sweep is that of the *convolution from the output to the input*: its image has the output's size, its stops are
the pixels of x. The weight is `(C, F / groups, KH, KW)`, as that convolution has it.

**Write the heart of `_convolve_back`**: make the sweep, scatter x, add the bias. `_lifted(values, axes, fill)` gives
settings for two axes from settings for one or two. And **write `ConvTranspose2dBackward.backward`**: since the forward
pass scattered, the way back reads.

`conv_transpose1d([[[1.0, 10.0]]], [[[1.0, 2.0, 3.0]]], stride=2)` is `[[[1, 2, 13, 20, 30]]]`.

<details><summary>Hint 1</summary>

Compare `_convolve`. There: image from x, stops computed. Here: image `(N, outer * groups, *sizes)`, stops `lengths`;
the weight is `(inner, outer, *kernel)`. The borders are a pair `(p, p)` for each axis.
</details>
<details><summary>Hint 2</summary>

`out = _scatter(sweep, x.data.reshape(N, C, *sweep.stops), weight.data)`, then `out += b.data[:, None, None]` for the one
or no bias.
</details>
<details><summary>Hint 3</summary>

In the rule, `dx` is `_correlate(sweep, grad, weight.data)`, and `dweight` is `_weigh(sweep, grad, x)`: the image that was
swept over is now the gradient, and what stands at the stops is x.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-transpose", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _convolve_back(op, axes, x, weight, bias, stride, padding, output_padding, groups, dilation):
    x, weight, *bias = _operands(op, axes, x, weight, bias)
    (N, C, *lengths), (inner, outer, *kernel) = x.shape, weight.shape
    stride = _per_axis(op, "stride", stride, axes, 1)
    dilation = _per_axis(op, "dilation", dilation, axes, 1)
    padding = _per_axis(op, "padding", padding, axes, 0)
    extra = _per_axis(op, "output_padding", output_padding, axes, 0)
    (groups,) = _per_axis(op, "groups", groups, 1, 1)
    if inner != C:
        raise ValueError(f"{op} with a weight {weight.shape} needs inputs of {inner} channels, got {C} in {x.shape}")
    if C % groups:
        raise ValueError(f"{op} with groups={groups} needs channels divisible by {groups}, got {C} in")
    _check_bias(op, bias, outer * groups)
    for e, s, d in zip(extra, stride, dilation):
        if e >= max(s, d):
            raise ValueError(
                f"{op} needs an output_padding below the larger of stride {stride} and dilation {dilation}, "
                f"got {output_padding!r}"
            )
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(lengths, stride, padding, dilation, kernel, extra)
    ]
    if min(sizes) < 1:
        raise ValueError(
            f"{op}: padding {padding} leaves nothing of an output of {tuple(sizes)} pixels; use less of it"
        )
    ### BEGIN SOLUTION
    sweep = _Sweep(
        (N, outer * groups, *_lifted(sizes, axes, 1)),
        (inner, outer, *_lifted(kernel, axes, 1)),
        _lifted(lengths, axes, 1),
        _lifted(stride, axes, 1),
        _lifted([(p, p) for p in padding], axes, (0, 0)),
        _lifted(dilation, axes, 1),
        groups,
    )
    out = _scatter(sweep, x.data.reshape(N, C, *sweep.stops), weight.data)
    for b in bias:
        out += b.data[:, None, None]
    ### END SOLUTION
    return result(out.reshape(N, outer * groups, *sizes), op, x, weight, *bias, sweep=sweep)


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias=None, stride=1, padding=0, output_padding=0, groups: int = 1, dilation=1
) -> Tensor:
    """The adjoint of `conv2d`: each pixel of x stamps its kernel, times the pixel, onto a larger image.

    x               (N, C, H, W)
    weight          (C, F / groups, KH, KW), as for the convolution from F to C channels that this is the adjoint of
    bias            (F,) or None
    padding         rows and columns cut off at each side of the output
    output_padding  rows and columns added at the bottom and right, because several sizes lead to the same H and W
    returns         (N, F, OH, OW) with OH = (H - 1) * stride - 2 * padding + dilation * (KH - 1) + output_padding + 1
    """
    return _convolve_back("conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose1d(
    x: Tensor, weight: Tensor, bias=None, stride=1, padding=0, output_padding=0, groups: int = 1, dilation=1
) -> Tensor:
    """`conv_transpose2d` along one axis: (N, C, L), (C, F / groups, K) -> (N, F, OL)."""
    return _convolve_back("conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation)


class ConvTranspose2dBackward(Function, op="conv_transpose2d"):
    """The adjoint of the adjoint is the convolution: dx is that of grad; for dweight, x and grad change places."""

    def backward(self, grad):
        x, weight, *bias = self.inputs
        sweep, C = self.saved["sweep"], x.shape[1]
        grad = grad.reshape(sweep.image)
        ### BEGIN SOLUTION
        dx = _correlate(sweep, grad, weight.data).reshape(x.shape) if self.needs[0] else None
        at_stops = x.data.reshape(len(grad), C, *sweep.stops)
        dweight = _weigh(sweep, grad, at_stops).reshape(weight.shape) if self.needs[1] else None
        return dx, dweight, *(grad.sum(axis=(0, 2, 3)) for _ in bias)
        ### END SOLUTION


class ConvTranspose1dBackward(ConvTranspose2dBackward, op="conv_transpose1d"):
    """As for images, of one row."""


# %%
print(conv_transpose1d([[[1.0, 10.0]]], [[[1.0, 2.0, 3.0]]], stride=2))

# "Adjoint" as an equation: <conv(x), y> = <x, transposed(y)> for any x and y.
x, w, y = rng.normal(size=(1, 2, 7, 8)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(1, 3, 4, 4))
x, w, y = (from_numpy(array) for array in (x, w, y))
left = (conv2d(x, w, stride=2, padding=1) * y).sum()
right = (x * conv_transpose2d(y, w, stride=2, padding=1, output_padding=(0, 1))).sum()
print(f"<conv(x), y> = {left:.10f}     <x, transposed(y)> = {right:.10f}")

print(
    "stamps of ones, kernel 3, stride 2:", conv_transpose1d(np.ones((1, 1, 5)), np.ones((1, 1, 3)), stride=2).data[0, 0]
)
print(
    "stamps of ones, kernel 4, stride 2:", conv_transpose1d(np.ones((1, 1, 5)), np.ones((1, 1, 4)), stride=2).data[0, 0]
)

# %% [markdown]
"""
The last two lines show what goes wrong in practice. If the stride does not divide the kernel, some pixels are stamped
more often than their neighbours, and generated pictures show a checkerboard. Choose a kernel that is a multiple of the
stride.

## Pooling: does it matter exactly where?

An edge was found two pixels to the left of where it was last time. For the answer "this is a 7" that should not matter.
*Max pooling* keeps, from each window, the largest number: was the edge anywhere in here, and how strongly? The image
becomes smaller, all later layers cheaper, and their kernels see more of the original image.

```
   1 2 | 5 6                        gradient of 4 goes to the pixel that was 4,
   3 4 | 7 8        4  8            and so on: 1 pixel in 4 gets one
   ----+----   ->
   9 1 | 0 2        9  4
   1 1 | 3 4
```

Windows of 2 x 2 could be cut out and reduced one by one. Faster, as with the taps: take all the first columns of the
windows, all the second columns, and keep the larger numbers; then the same with rows. `columns` and `rows` are lists of
slices that pick the first, second, ... element of every window, and `_combined(np.maximum, array, axis, slices)`
combines them.

Padding is done with `-inf`. With 0, a window of negative numbers at the border would answer 0, which nobody said.

**Write the heart of `max_pool2d`**: `bordered`, `across` (the largest of each row of a window, so columns combined, axis
-1) and `out` (then over rows, axis -2).

For the image above, `max_pool2d(x, 2)` is `[[4, 8], [9, 4]]`.

<details><summary>Hint 1</summary>

`_bordered(x.data, padding, -np.inf)` is the image itself where there is no padding.
</details>
<details><summary>Hint 2</summary>

`across = _combined(np.maximum, bordered, -1, columns)`.
</details>
<details><summary>Hint 3</summary>

`out` is the same of `across`, with axis -2 and `rows`. The order matters for the gradient below.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-max-pool", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _images(op, x):
    x = floating(x)
    if x.ndim != 4:
        advice = "; for a single image use x.unsqueeze(0)" if x.ndim == 3 else ""
        raise ValueError(f"{op} needs images (N, C, H, W), got shape {x.shape}{advice}")
    return x


def _windows(op, shape, kernel_size, stride, padding):
    """Padding, and for each axis the slices that pick the first, second, ... element of all windows, all checked."""
    kernel = _per_axis(op, "kernel_size", kernel_size, 2, 1)
    stride = kernel if stride is None else _per_axis(op, "stride", stride, 2, 1)
    padding = _per_axis(op, "padding", padding, 2, 0)
    slices = []
    for i, (n, k, s, p) in enumerate(zip(shape[2:], kernel, stride, padding), 2):
        if 2 * p > k:
            raise ValueError(f"{op} needs padding of at most half the kernel, got padding {p} for a kernel of {k}")
        if k > n + 2 * p:
            raise ValueError(
                f"{op}: a window of {k} does not fit into {n} + {2 * p} of padding along axis {i} of {shape}; "
                "use a smaller one"
            )
        last = (_stops(n, k, s, 2 * p) - 1) * s
        slices.append([slice(j, j + last + 1, s) for j in range(k)])
    return padding, *slices


def _bordered(array, padding, value):
    """`array` (..., H, W) with a border of `value`; itself if the border has no width."""
    (p, q), (*lead, H, W) = padding, array.shape
    if p == q == 0:
        return array
    out = np.full_like(array, value, shape=(*lead, H + 2 * p, W + 2 * q))
    out[..., p : p + H, q : q + W] = array
    return out


def _without_border(array, padding):
    p, q = padding
    return array[..., p : array.shape[-2] - p, q : array.shape[-1] - q]


def _combined(combine, array, axis, slices):
    """The slices of an array along one of its last two axes, combined element by element."""
    first, *others = (array[..., s, :] if axis == -2 else array[..., s] for s in slices)
    out = combine(first, others[0]) if others else first.copy()
    for part in others[1:]:
        combine(out, part, out=out)
    return out


def max_pool2d(x: Tensor, kernel_size, stride=None, padding=0) -> Tensor:
    """The largest pixel of each window: (N, C, H, W) -> (N, C, OH, OW). The gradient goes to the first of equals.

    kernel_size, stride, padding   one number or (rows, columns); stride is kernel_size unless given
    padding                        with -inf, which never is the largest; at most half the kernel
    """
    x = _images("max_pool2d", x)
    padding, rows, columns = _windows("max_pool2d", x.shape, kernel_size, stride, padding)
    ### BEGIN SOLUTION
    bordered = _bordered(x.data, padding, -np.inf)
    across = _combined(np.maximum, bordered, -1, columns)
    out = _combined(np.maximum, across, -2, rows)
    ### END SOLUTION
    saved = {"padding": padding, "rows": rows, "columns": columns}
    return result(out, "max_pool2d", x, bordered=bordered, across=across, out=out, **saved)


# %% [markdown]
"""
### Who gets the gradient of a tie?

The gradient goes to the pixel that was the largest. But after a relu most windows are full of zeros, so ties are the
usual case. If every one of the equal pixels got the gradient, it would be counted up to four times. Ours goes to the
*first* of them, row by row, as in PyTorch.

Both passes are undone one after the other. For rows: which row of the window held the largest number? The first whose
`across` equals `out`. Then, in that row, which pixel? The first that equals `across`. So one function serves for both:
it walks through the slices; where the slice equals the extreme, it takes the gradient and leaves nothing for the later
ones; the last slice takes whatever is left.

**Write the heart of `_to_first`** and **`MaxPool2dBackward.backward`**. In `_to_first`, the place of a slice `s` is
`(..., s, slice(None))` for axis -2 and `(..., s)` for axis -1. Windows may overlap, so add.

For the window `[[1, 5], [5, 5]]` with gradient 1, the gradient is `[[0, 1], [0, 0]]`.

<details><summary>Hint 1</summary>

`hit = array[place] == extreme` is a boolean array; `grad * hit` is what this slice takes, `grad * ~hit` what is left.
</details>
<details><summary>Hint 2</summary>

`if s is slices[-1]: out[place] += grad`, otherwise take the share and go on with the rest.
</details>
<details><summary>Hint 3</summary>

Backwards, rows come first: `dacross = _to_first(grad, saved["across"], saved["out"], -2, saved["rows"])`, and then
`_to_first` of that with `bordered`, `across`, -1 and the columns. `_without_border` cuts the padding off.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-max-pool-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _to_first(grad, array, extreme, axis, slices):
    """Send grad to the first of the slices of `array` that equals `extreme`; the last takes what nobody took."""
    out = np.zeros_like(array)
    ### BEGIN SOLUTION
    for s in slices:
        place = (..., s, slice(None)) if axis == -2 else (..., s)
        if s is slices[-1]:
            out[place] += grad
        else:
            hit = array[place] == extreme
            out[place] += grad * hit
            grad = grad * ~hit  # what the later ones may still take
    return out
    ### END SOLUTION


class MaxPool2dBackward(Function, op="max_pool2d"):
    """First to the row of the window that held the largest pixel, then to the pixel in that row."""

    def backward(self, grad):
        saved = self.saved
        ### BEGIN SOLUTION
        dacross = _to_first(grad, saved["across"], saved["out"], -2, saved["rows"])
        dx = _to_first(dacross, saved["bordered"], saved["across"], -1, saved["columns"])
        return _without_border(dx, saved["padding"])
        ### END SOLUTION


# %%
x = Tensor([[[[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 1, 0, 0], [1, 1, 0, 0]]]], requires_grad=True)
out = max_pool2d(x, 2)
out.sum().backward()
print(out.data[0, 0])
print(x.grad[0, 0], " the window of zeros gives its gradient once, to its first pixel")

# %% [markdown]
"""
*Average pooling* takes the mean. Its gradient is the simplest there is: each pixel of a window counts 1 / area. Zeros of
the padding count as pixels, as in PyTorch. `_shared_out` is the adjoint of the two sums, and given.

**Write the hearts of `avg_pool2d` and of `AvgPool2dBackward.backward`.**

`avg_pool2d([[[[1.0, 2.0], [3.0, 6.0]]]], 2)` is `[[[[3]]]]`, and the gradient of its sum is 0.25 everywhere.

<details><summary>Hint 1</summary>

As for the maximum, with `np.add` and a border of 0; the area is `len(rows) * len(columns)`.
</details>
<details><summary>Hint 2</summary>

`out` belongs to you, so `out /= area` needs no new array.
</details>
<details><summary>Hint 3</summary>

On the way back `grad` belongs to others: `grad / area` is a new array. `_shared_out(that, shape, rows, columns)`, and
off with the border.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-avg-pool", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _shared_out(grad, shape, rows, columns):
    """The adjoint of summing over windows: every pixel of a window gets the grad of its sum."""
    down = np.zeros_like(grad, shape=(*shape[:-1], grad.shape[-1]))
    for s in rows:
        down[..., s, :] += grad
    out = np.zeros_like(grad, shape=shape)
    for s in columns:
        out[..., s] += down
    return out


def avg_pool2d(x: Tensor, kernel_size, stride=None, padding=0) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW). Zeros of the padding count, as in PyTorch.

    kernel_size, stride, padding   one number or (rows, columns); stride is kernel_size unless given
    """
    x = _images("avg_pool2d", x)
    padding, rows, columns = _windows("avg_pool2d", x.shape, kernel_size, stride, padding)
    ### BEGIN SOLUTION
    bordered = _bordered(x.data, padding, 0)
    out = _combined(np.add, _combined(np.add, bordered, -1, columns), -2, rows)
    out /= len(rows) * len(columns)
    ### END SOLUTION
    return result(out, "avg_pool2d", x, shape=bordered.shape, padding=padding, rows=rows, columns=columns)


class AvgPool2dBackward(Function, op="avg_pool2d"):
    """Every pixel of a window counts 1 / area in its mean."""

    def backward(self, grad):
        shape, padding, rows, columns = (self.saved[key] for key in ("shape", "padding", "rows", "columns"))
        ### BEGIN SOLUTION
        dx = _shared_out(grad / (len(rows) * len(columns)), shape, rows, columns)
        return _without_border(dx, padding)
        ### END SOLUTION


# %% [markdown]
"""
*Adaptive* pooling is told the size of its output instead of its windows. With size 1 it is the mean of each channel,
whatever the size of the image: so the `Linear` layer behind it fits images of any size. If the length is no multiple of the
number of windows, they overlap: window i starts at i * length / count, rounded down, and ends at (i + 1) * length /
count, rounded up.

**Write `_shares`**, the list of slices. `_shares(7, 3)` is `[slice(0, 3), slice(2, 5), slice(4, 7)]`.

<details><summary>Hint 1</summary>

`i * length // count` rounds down.
</details>
<details><summary>Hint 2</summary>

`-(-a // b)` rounds a / b up, in whole numbers.
</details>
<details><summary>Hint 3</summary>

`[slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-adaptive", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _shares(length, count):
    """`count` windows that cover `length` pixels; window i goes from floor(i * share) to ceil((i + 1) * share)."""
    ### BEGIN SOLUTION
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
    ### END SOLUTION


def _areas(rows, columns, like):
    """How many pixels each window holds, (OH, OW)."""
    heights, widths = ([s.stop - s.start for s in slices] for slices in (rows, columns))
    return np.asarray(np.outer(heights, widths), like.dtype, like=like)


def adaptive_avg_pool2d(x: Tensor, output_size) -> Tensor:
    """The mean over windows chosen so that `output_size`, one number or (OH, OW), comes out: (N, C, OH, OW)."""
    op = "adaptive_avg_pool2d"
    x = _images(op, x)
    OH, OW = _per_axis(op, "output_size", output_size, 2, 1)
    N, C, H, W = x.shape
    if H == 0 or W == 0:
        raise ValueError(f"{op} needs images of at least one pixel, got shape {x.shape}")
    rows, columns = _shares(H, OH), _shares(W, OW)
    if OH == OW == 1:
        out = np.einsum("nchw->nc", x.data).reshape(N, C, 1, 1)
    else:
        down = np.empty_like(x.data, shape=(N, C, OH, W))
        for i, s in enumerate(rows):
            np.einsum("nchw->ncw", x.data[:, :, s], out=down[:, :, i])
        out = np.empty_like(x.data, shape=(N, C, OH, OW))
        for j, s in enumerate(columns):
            np.einsum("nchw->nch", down[..., s], out=out[..., j])
    out /= _areas(rows, columns, out)
    return result(out, op, x, rows=rows, columns=columns)


class AdaptiveAvgPool2dBackward(Function, op="adaptive_avg_pool2d"):
    """Every pixel counts 1 / length in the means of its row and of its column."""

    def backward(self, grad):
        (x,), rows, columns = self.inputs, self.saved["rows"], self.saved["columns"]
        grad = grad / _areas(rows, columns, grad)
        down = np.zeros_like(grad, shape=(*x.shape[:3], len(columns)))
        for i, s in enumerate(rows):
            down[:, :, s] += grad[:, :, i : i + 1]
        dx = np.zeros_like(x.data)
        for j, s in enumerate(columns):
            dx[..., s] += down[..., j : j + 1]
        return dx


# %%
print(_shares(7, 3), _shares(8, 4))
print("any size to 1:", [adaptive_avg_pool2d(np.ones((1, 2, n, n + 3)), 1).shape for n in (1, 7, 30)])

# %% [markdown]
"""
## Batch normalization

A deep network is a chain of layers, and each one must live with whatever scale the ones before it produce. If one
doubles its weights, all later layers see doubled numbers, and the learning rate that was right for them is wrong. Batch
normalization (Ioffe and Szegedy 2015) puts a fixed point into the chain: each channel is shifted and scaled to mean 0
and variance 1, over all images and places of the batch, and then two learnt numbers per channel, weight and bias, say
what mean and variance it should have instead.

```
   one channel, four values       1    3    5    7        mean 4,  variance (9 + 1 + 1 + 9) / 4 = 5
   minus the mean                -3   -1    1    3
   by the root of 5 + eps      -1.34 -0.45 0.45 1.34      mean 0, variance 1
   * weight + bias                                        whatever is learnt
```

Now the model is in use and one single image comes. What is its batch? There is none, and the answer to one user must not
depend on who else asks at the same moment. So while training, *running* statistics are kept: after each batch they
move towards its mean and variance by a tenth (`momentum`). In use, they stand in for those of the batch. Two small
print facts, as in PyTorch: the batch is normalized by its own variance (divided by n), but what goes into the running
variance is divided by n - 1, because the batch is only a sample and its own mean sits too well in its middle.

**Write the heart of `batch_norm`**, for the channels `c` of one block (`values` is `(N, C, S)`; blocks of channels that fit into
the cache). `mean` and `scale` are `(C, 1)`; when not training they hold the running statistics already.

- training: the mean over N and S, into `mean[c, 0]` (`np.einsum("ncs->c", ...)` is a fast sum)
- `centered = values - mean`
- training: the variance from `centered`, `scale = (var + eps) ** -0.5`, and the running statistics, if given
- out: `centered * (scale * weight) + bias`

With the four values above, `batch_norm([[1.0], [3.0], [5.0], [7.0]], training=True)` is -1.342, -0.447, 0.447, 1.342.

<details><summary>Hint 1</summary>

`np.einsum("ncs,ncs->c", centered, centered) / (N * S)` is the variance. It is taken from the *centered* values: the
shortcut "mean of squares minus square of mean" loses all digits when the mean is large.
</details>
<details><summary>Hint 2</summary>

Moving by a share is `running_mean[c] += momentum * (mean[c, 0] - running_mean[c])`: in place, for the array belongs to
the layer. The variance likewise, times `N * S / (N * S - 1)`.
</details>
<details><summary>Hint 3</summary>

`centered *= scale[c] * weight.data[c, None]`, and `np.add(centered, bias.data[c, None], out=out[:, c])`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-batch-norm", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _channel_blocks(N, C, S):
    """Slices of channels whose N * S numbers each fit into the cache together."""
    count = max(1, (1 << 16) // max(1, N * S))
    return [slice(c, min(c + count, C)) for c in range(0, C, count)]


def batch_norm(
    x: Tensor,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel shifted and scaled to mean 0 and variance 1, then times weight plus bias.

    x                           (N, C, ...)
    running_mean, running_var   (C,) arrays or None
    weight, bias                (C,) or None, which is 1 and 0
    training   with the mean and variance of this batch; the running ones, if given, move towards them in place, by the
               share `momentum` (towards n / (n - 1) times the batch's variance: what a sample says about its source).
               Otherwise the running ones are used, and must be given.

    Raises ValueError where shapes do not fit, and when training on one value per channel. (Ioffe & Szegedy 2015)
    """
    x = floating(x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm needs inputs (N, C, ...), got shape {x.shape}")
    N, C, S = *x.shape[:2], math.prod(x.shape[2:])
    weight = from_numpy(np.ones_like(x.data, shape=C)) if weight is None else floating(weight)
    bias = from_numpy(np.zeros_like(x.data, shape=C)) if bias is None else floating(bias)
    running = {"running_mean": running_mean, "running_var": running_var}
    for name, array in {"weight": weight, "bias": bias, **running}.items():
        if array is not None and array.shape != (C,):
            raise ValueError(f"batch_norm of {C} channels needs {name} ({C},), got shape {array.shape}; x is {x.shape}")
    if not training and (running_mean is None or running_var is None):
        raise ValueError("batch_norm needs running_mean and running_var when it is not training")
    if training and N * S < 2:
        raise ValueError(f"batch_norm needs more than one value per channel to train on, got shape {x.shape}")
    x, weight, bias = floats(x, weight, bias)
    values = x.data.reshape(N, C, S)
    out = np.empty_like(values)
    mean, scale = np.empty_like(values, shape=(C, 1)), np.empty_like(values, shape=(C, 1))
    if not training:
        mean[:, 0], scale[:, 0] = running_mean, (np.asarray(running_var, x.dtype) + eps) ** -0.5
    for c in _channel_blocks(N, C, S):
        ### BEGIN SOLUTION
        if training:
            mean[c, 0] = np.einsum("ncs->c", values[:, c]) / (N * S)
        centered = values[:, c] - mean[c]
        if training:
            var = np.einsum("ncs,ncs->c", centered, centered) / (N * S)
            scale[c, 0] = (var + eps) ** -0.5
            if running_mean is not None:
                running_mean[c] += momentum * (mean[c, 0] - running_mean[c])
            if running_var is not None:
                running_var[c] += momentum * (var * (N * S / (N * S - 1)) - running_var[c])
        centered *= scale[c] * weight.data[c, None]
        np.add(centered, bias.data[c, None], out=out[:, c])
        ### END SOLUTION
    return result(out.reshape(x.shape), "batch_norm", x, weight, bias, mean=mean, scale=scale, training=training)


# %%
mean, var = np.zeros(1, np.float32), np.ones(1, np.float32)
print(batch_norm([[1.0], [3.0], [5.0], [7.0]], mean, var, training=True).data.ravel())
print(f"running mean 0.1 * 4 = {mean[0]:.3f}, running variance 0.9 + 0.1 * 20 / 3 = {var[0]:.3f}")

# %% [markdown]
"""
### A gradient that does not forget

Raise one pixel a little. Its own output grows. But the mean grows too, so all outputs fall; and the variance changes, so
all outputs are scaled. Take a batch of two values per channel: its outputs are always -1 and 1, wherever the two values
lie. So their true gradient is 0, whatever the loss. A rule that treats mean and variance as constants says something
else. It is the most common mistake in batch normalization by hand, and the network still learns, only worse.

Work it out once. With h = (x - mean) * scale and n values per channel:

```
   dbias   = sum of grad                    dweight = sum of grad * h
   dx      = weight * scale * ( grad  -  dbias / n  -  h * dweight / n )
                                         the mean moved    the variance moved
```

In words: from the gradient, the part that would only shift all values and the part that would only stretch them are
taken out, because neither changes anything. In use the statistics are constants, and only `weight * scale * grad` is
left.

**Write the heart of `BatchNormBackward.backward`**, for the channels `c` of one block. `h` is an array of your own, so it can
be computed in place. If `dx` is None nobody needs it.

For x = [0, 10] and grad = [1, 0] in training, dx is [0, 0].

<details><summary>Hint 1</summary>

`h = values[:, c] - mean[c]`, then `h *= scale[c]`. The two sums are the einsums of the forward pass, `"ncs->c"` of `g`
and `"ncs,ncs->c"` of `g` and `h`.
</details>
<details><summary>Hint 2</summary>

In training, turn `h` into `g - h * dweight / n - dbias / n` in three steps in place; n is `N * S`, and `dweight[c, None]`
stretches along the places.
</details>
<details><summary>Hint 3</summary>

`np.multiply(g, scale[c] * weight.data[c, None], out=dx[:, c])` is the last line, with `g` the gradient itself when not
training.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-batch-norm-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class BatchNormBackward(Function, op="batch_norm"):
    """out = weight * h + bias with h = (x - mean) * scale, so dweight = sum(grad * h) and dbias = sum(grad).

    In training the mean and the variance moved with x: dx = weight * scale * (grad - dbias / n - h * dweight / n).
    """

    def backward(self, grad):
        x, weight, _ = self.inputs
        N, C, S = *x.shape[:2], math.prod(x.shape[2:])
        grad, values = grad.reshape(N, C, S), x.data.reshape(N, C, S)
        mean, scale = self.saved["mean"], self.saved["scale"]
        dweight, dbias = np.empty_like(weight.data), np.empty_like(weight.data)
        dx = np.empty_like(values) if self.needs[0] else None
        for c in _channel_blocks(N, C, S):
            ### BEGIN SOLUTION
            g = grad[:, c]
            h = values[:, c] - mean[c]
            h *= scale[c]
            dbias[c] = np.einsum("ncs->c", g)
            dweight[c] = np.einsum("ncs,ncs->c", g, h)
            if dx is None:
                continue
            if self.saved["training"]:
                h *= dweight[c, None] / (N * S)
                h += dbias[c, None] / (N * S)
                np.subtract(g, h, out=h)
                g = h
            np.multiply(g, scale[c] * weight.data[c, None], out=dx[:, c])
            ### END SOLUTION
        return None if dx is None else dx.reshape(x.shape), dweight, dbias


# %%
pair_of_values = Tensor([[0.0], [10.0]], requires_grad=True)
batch_norm(pair_of_values, training=True).backward([[1.0], [0.0]])
print("a batch of two:", pair_of_values.grad.ravel())

x, g = rng.normal(size=(8, 3)), rng.normal(size=(8, 3))
tracked = Tensor(x, requires_grad=True, dtype=np.float64)
batch_norm(tracked, training=True).backward(g)
forgetful = g * (x.var(axis=0) + 1e-5) ** -0.5
error = np.linalg.norm(forgetful - tracked.grad) / np.linalg.norm(tracked.grad)
print(f"8 values per channel, mean and variance taken as constants: the gradient is off by {error:.0%}")
arrays = x, rng.normal(size=3), rng.normal(size=3)
print("finite differences agree:", gradcheck(lambda x, w, b: batch_norm(x, None, None, w, b, training=True), arrays))

# %% [markdown]
"""
The formula can be written with the tensors of module 05 as well, and then there is no rule to derive. What did the rule
bring, forward and backward together?
"""


# %%
def in_tensors(x, weight, bias):
    centered = x - x.mean((0, 2, 3), keepdims=True)
    var = (centered * centered).mean((0, 2, 3), keepdims=True)
    return centered / (var + 1e-5).sqrt() * weight.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)


def in_one_rule(x, weight, bias):
    return batch_norm(x, None, None, weight, bias, training=True)


shapes = (64, 32, 16, 16), (32,), (32,)
x, w, b = (Tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True) for shape in shapes)
seed = rng.standard_normal(x.shape, dtype=np.float32)
np.testing.assert_allclose(in_one_rule(x, w, b).data, in_tensors(x, w, b).data, rtol=1e-3, atol=1e-4)
for way in (in_tensors, in_one_rule):
    print(f"{way.__name__:12} {best_time(lambda way=way: way(x, w, b).backward(seed)):6.2f} ms")

# %% [markdown]
"""
## Classes

Layers own what is learnt. A convolution's weights start uniform in +-1 / sqrt(fan_in), where fan_in counts all positions
of the kernel, as in PyTorch.
"""


# %%
#| export
class _Conv(Module):
    """A convolution that owns its kernels. weight and bias start uniform in +-1 / sqrt(fan_in), as in PyTorch."""

    axes = 2

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, rng=None
    ):
        who, axes = type(self).__name__, self.axes
        (self.in_channels,) = _per_axis(who, "in_channels", in_channels, 1, 1)
        (self.out_channels,) = _per_axis(who, "out_channels", out_channels, 1, 1)
        self.kernel_size = _per_axis(who, "kernel_size", kernel_size, axes, 1)
        self.stride = _per_axis(who, "stride", stride, axes, 1)
        self.dilation = _per_axis(who, "dilation", dilation, axes, 1)
        (self.groups,) = _per_axis(who, "groups", groups, 1, 1)
        self.padding = padding
        _borders(who, padding, self.kernel_size, self.stride, self.dilation)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{who} with groups={groups} needs channels divisible by {groups}, "
                f"got {in_channels} in and {out_channels} out"
            )
        rng = generator(rng)
        self.weight = kaiming_uniform(self._weight_shape(), gain=1 / math.sqrt(3), rng=rng)
        bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
        self.bias = Tensor(rng.uniform(-bound, bound, self.out_channels), requires_grad=True) if bias else None

    def _weight_shape(self):
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    def extra_repr(self):
        names = ("kernel_size", "stride", "padding", "output_padding", "dilation", "groups")
        usual = {
            "stride": (1,) * self.axes,
            "padding": 0,
            "output_padding": 0,
            "dilation": (1,) * self.axes,
            "groups": 1,
        }
        settings = [(name, vars(self)[name]) for name in names if name in vars(self)]
        said = "".join(f", {name}={value!r}" for name, value in settings if usual.get(name) != value)
        return f"{self.in_channels}, {self.out_channels}{said}" + ("" if self.bias is not None else ", bias=False")


class Conv2d(_Conv):
    """`conv2d` with weight (out_channels, in_channels / groups, KH, KW) and bias (out_channels,)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, OH, OW)"""
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """`conv1d` with weight (out_channels, in_channels / groups, K) and bias (out_channels,)."""

    axes = 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, L) -> (N, out_channels, OL)"""
        return conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _ConvTranspose(_Conv):
    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        rng=None,
    ):
        who = type(self).__name__
        _per_axis(who, "padding", padding, self.axes, 0)
        _per_axis(who, "output_padding", output_padding, self.axes, 0)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, rng)
        self.output_padding = output_padding

    def _weight_shape(self):
        return self.in_channels, self.out_channels // self.groups, *self.kernel_size


class ConvTranspose2d(_ConvTranspose):
    """`conv_transpose2d` with weight (in_channels, out_channels / groups, KH, KW) and bias (out_channels,)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, OH, OW)"""
        settings = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return conv_transpose2d(x, self.weight, self.bias, *settings)


class ConvTranspose1d(_ConvTranspose):
    """`conv_transpose1d` with weight (in_channels, out_channels / groups, K) and bias (out_channels,)."""

    axes = 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, L) -> (N, out_channels, OL)"""
        settings = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return conv_transpose1d(x, self.weight, self.bias, *settings)


class _Pool(Module):
    def __init__(self, kernel_size, stride=None, padding=0):
        who = type(self).__name__
        self.kernel_size = _per_axis(who, "kernel_size", kernel_size, 2, 1)
        self.stride = self.kernel_size if stride is None else _per_axis(who, "stride", stride, 2, 1)
        self.padding = _per_axis(who, "padding", padding, 2, 0)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool):
    """`max_pool2d` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(_Pool):
    """`avg_pool2d` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class AdaptiveAvgPool2d(Module):
    """`adaptive_avg_pool2d` as a layer; AdaptiveAvgPool2d(1) is the mean of each channel, whatever the image's size."""

    def __init__(self, output_size):
        self.output_size = _per_axis("AdaptiveAvgPool2d", "output_size", output_size, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self):
        return f"output_size={self.output_size}"


# %% [markdown]
"""
A batch norm also owns what is *not* learnt by gradients: the running statistics. They are NumPy arrays in public attributes,
which module 03 calls buffers: saved with the model, invisible to the optimizer.

**Write the heart of `_BatchNorm.forward`**: call `batch_norm` with everything the layer owns, and count the batches it
was trained on. If `momentum` is None, the running statistics are the plain average of all batches: the share of the k-th
batch is then 1 / k.

After one call in training `num_batches_tracked` is 1; after a call in use it is still 1.

<details><summary>Hint 1</summary>

`self.training` is what `train()` and `eval()` set.
</details>
<details><summary>Hint 2</summary>

The share of the next batch is `1 / (1 + int(self.num_batches_tracked))`.
</details>
<details><summary>Hint 3</summary>

`batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps)`; afterwards,
if training, `self.num_batches_tracked += 1`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "spatial-batch-norm-layer", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class _BatchNorm(Module):
    """`batch_norm` that owns weight (1 at first), bias (0) and the running statistics, which are buffers.

    momentum   the share of the newest batch in the running statistics; None: the plain average of all batches so far
    """

    shapes = {}

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1):
        (self.num_features,) = _per_axis(type(self).__name__, "num_features", num_features, 1, 1)
        self.eps = eps
        self.momentum = momentum
        self.weight = Tensor(np.ones(num_features, np.float32), requires_grad=True)
        self.bias = Tensor(np.zeros(num_features, np.float32), requires_grad=True)
        self.running_mean = np.zeros(num_features, np.float32)
        self.running_var = np.ones(num_features, np.float32)
        self.num_batches_tracked = np.zeros((), np.int64)

    def forward(self, x: Tensor) -> Tensor:
        x = floating(x)
        if x.ndim not in self.shapes or x.shape[1] != self.num_features:
            raise ValueError(f"{self} needs inputs {' or '.join(self.shapes.values())}, got shape {x.shape}")
        ### BEGIN SOLUTION
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / (1 + int(self.num_batches_tracked))
        out = batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps
        )
        if self.training:
            self.num_batches_tracked += 1
        return out
        ### END SOLUTION

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L)."""

    shapes = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W)."""

    shapes = {4: "(N, C, H, W)"}


# %%
norm = BatchNorm2d(2)
norm(rng.normal(5, 2, (16, 2, 4, 4)))
print(norm)
for name, array in norm.named_buffers():
    print(f"  {name:20}", array)
print(
    "in use, one image:",
    norm.eval()(np.full((1, 2, 1, 1), 5.0)).data.ravel(),
    "tracked:",
    int(norm.num_batches_tracked),
)

# %% [markdown]
"""
## The digits again

Two convolutions, each with batch norm and relu, then the largest of each window, then the mean of each channel: what is
left is 32 numbers that say *what* was seen, and hardly *where*.
"""

# %%
manual_seed(0)
seeing_network = Sequential(
    Conv2d(1, 16, 3, padding=1),
    BatchNorm2d(16),
    ReLU(),
    Conv2d(16, 32, 3, padding=1),
    BatchNorm2d(32),
    ReLU(),
    MaxPool2d(2),
    AdaptiveAvgPool2d(1),
    Flatten(),
    Linear(32, 10),
)
trained(seeing_network)
print("pixels to the right                     -2      -1       0       1       2")
print(f"two linear layers, {flat_network.num_parameters()} weights   ", read_moved(flat_network))
print(f"two convolutions,  {seeing_network.num_parameters()} weights   ", read_moved(seeing_network))

# %% [markdown]
"""
About as many weights, trained on the same images, none of which was ever moved. One pixel to either side it can nearly
ignore. Two pixels cost more, because the digits are cut off: eight pixels are not many. Now look at what its first
layer has learnt to see.
"""

# %%
learnt = seeing_network[0].weight.data[:, 0]
pictures.tiles(learnt)
plt.show()
strongest = np.abs(learnt).max(axis=(1, 2)).argmax()
print("the kernel with the largest weight:\n", learnt[strongest])

# %% [markdown]
"""
## What does it cost?

For each layer of a network for 32 x 32 colour images: what it owns, what it computes for one image, and what it leaves
behind for the way back. A multiply-add is one product and one sum.
"""


# %%
def costs(model, shape):
    """One line for each layer: output shape, parameters, multiply-adds and kilobytes of output, for one image."""
    x = from_numpy(np.zeros((1, *shape), np.float32))
    for piece in model:
        out = piece(x)
        work = 0
        if isinstance(piece, Conv2d):
            work = out.size * piece.weight.size // piece.out_channels
        elif isinstance(piece, Linear):
            work = piece.weight.size
        owned = sum(parameter.size for parameter in piece.parameters())
        name, size = type(piece).__name__, str(out.shape[1:])
        yield f"{name:12} {size:14} {owned:10,} {work / 1e6:12.2f} M {out.data.nbytes / 1e3:8.0f} kB"
        x = out


colour_network = Sequential(
    Conv2d(3, 32, 3, padding=1),
    BatchNorm2d(32),
    ReLU(),
    MaxPool2d(2),
    Conv2d(32, 64, 3, padding=1),
    BatchNorm2d(64),
    ReLU(),
    MaxPool2d(2),
    Flatten(),
    Linear(64 * 8 * 8, 10),
)
print("layer        output         parameters  multiply-adds   output")
for text in costs(colour_network.eval(), (3, 32, 32)):
    print(text)

# %% [markdown]
"""
Read the columns against each other. The parameters sit in the `Linear` layer, the work in the second convolution, and
the memory in the first few outputs. A layer can be cheap in one column and dear in another, and an optimization that
looks at the wrong column gains nothing.

Now the memory of the patches. The second convolution alone, in a batch of 64: the patches of all images at once, against
blocks.
"""


# %%
def peak(function):
    """The most memory that a call held at one time, in megabytes."""
    tracemalloc.start()
    function()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


print("images   input      all patches at once       in blocks")
for N in (4, 16, 64):
    x, w, b = layer(N, 32, 18, 64)
    tensors = [from_numpy(array) for array in (x, w, b)]
    ways = functools.partial(by_patches, x, w, b), functools.partial(conv2d, *tensors)
    cells = [f"{peak(way):7.1f} MB {best_time(way):6.2f} ms" for way in ways]
    print(f"{N:6} {x.nbytes / 1e6:6.1f} MB  ", "    ".join(cells))

# %% [markdown]
"""
All patches at once grow with the batch, many times as fast as the images. In blocks, what is held is the output, the
layout of the input and one block of fixed size. For a few images, whose patches fit into the cache anyway, it makes no
difference to the time; for a large batch the blocks are quicker too.

And the direction back? Time of the forward pass and of forward and backward together, with the gradient of the image
and without.
"""

# %%
x, w, b = layer(64, 32, 16, 64)


def there_and_back(image_needs_gradient):
    tensors = [Tensor(array, requires_grad=True) for array in (x, w, b)]
    tensors[0].requires_grad = image_needs_gradient
    conv2d(*tensors, padding=1).sum().backward()


forward = best_time(lambda: conv2d(from_numpy(x), from_numpy(w), from_numpy(b), padding=1))
print(f"forward {forward:.1f} ms")
for needs in (False, True):
    both = best_time(functools.partial(there_and_back, needs))
    print(f"forward and backward {both:.1f} ms, {both / forward:.1f} times, gradient of the image: {needs}")

# %% [markdown]
"""
Three products of the same size: one forward, one for the kernels, one for the image. The first layer of a network needs
only two of them.

## All together

The checks of this lesson in one cell.
"""

# %%
# The definition, for every setting that the loops know.
for C, F, K, H in ((1, 1, 1, 4), (2, 3, 3, 6), (3, 2, 5, 5)):
    x, w, b = rng.normal(size=(2, C, H, H)), rng.normal(size=(F, C, K, K)), rng.normal(size=F)
    np.testing.assert_allclose(conv2d(*map(from_numpy, (x, w, b))).data, naive_conv2d(x, w, b), atol=1e-12)

# Padding is zeros around, stride leaves stops out, dilation is a kernel with holes.
x, w = rng.normal(size=(1, 2, 7, 7)), rng.normal(size=(2, 2, 3, 3))
none = np.zeros(2)
padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
np.testing.assert_allclose(conv2d(*map(from_numpy, (x, w)), padding=1).data, naive_conv2d(padded, w, none), atol=1e-12)
np.testing.assert_allclose(
    conv2d(*map(from_numpy, (x, w)), stride=2).data, naive_conv2d(x, w, none)[:, :, ::2, ::2], atol=1e-12
)
holes = np.zeros((2, 2, 5, 5))
holes[:, :, ::2, ::2] = w
np.testing.assert_allclose(conv2d(*map(from_numpy, (x, w)), dilation=2).data, naive_conv2d(x, holes, none), atol=1e-12)

# Every rule against finite differences.
for function, shapes in (
    (lambda x, w, b: conv2d(x, w, b, 2, 1), [(2, 2, 5, 4), (2, 2, 3, 3), (2,)]),
    (lambda x, w, b: conv1d(x, w, b, 1, 2, 2), [(2, 2, 6), (3, 2, 3), (3,)]),
    (lambda x, w, b: conv_transpose2d(x, w, b, 2, 1, 1), [(1, 2, 3, 3), (2, 2, 3, 3), (2,)]),
    (lambda x, w, b: conv_transpose1d(x, w, b, 3), [(2, 2, 4), (2, 2, 2), (2,)]),
    (lambda x: max_pool2d(x, 3, 2, 1), [(2, 2, 5, 6)]),
    (lambda x: avg_pool2d(x, 3, 2, 1), [(2, 2, 5, 6)]),
    (lambda x: adaptive_avg_pool2d(x, (2, 3)), [(2, 2, 5, 4)]),
    (lambda x, w, b: batch_norm(x, None, None, w, b, True), [(4, 2, 3), (2,), (2,)]),
):
    assert gradcheck(function, [rng.normal(size=shape) for shape in shapes])

# Numbers worked out by hand.
assert _stops(224, 7, 2, 6) == 112
assert conv_transpose1d([[[1.0, 10.0]]], [[[1.0, 2.0, 3.0]]]).tolist() == [[[1, 12, 23, 30]]]
assert max_pool2d(np.full((1, 1, 2, 2), -3.0), 2, 2, 1).data.max() == -3
np.testing.assert_allclose(pair_of_values.grad, 0, atol=1e-6)

# float32 stays float32, and what does not fit is said before anything is computed.
assert conv2d(np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)).dtype == np.float32
for wrong in (
    lambda: conv2d(np.zeros((1, 3, 8, 8)), np.zeros((4, 1, 3, 3))),
    lambda: conv2d(np.zeros((1, 1, 2, 8)), np.zeros((1, 1, 3, 3))),
    lambda: batch_norm(np.zeros((1, 3)), training=True),
):
    try:
        wrong()
    except ValueError as error:
        print(error)

# %% [markdown]
"""
## Questions

**1.** Two 3 x 3 convolutions, one after the other, or one 5 x 5, from C channels to C channels: which pixels does one
output see, and how many weights does each version have?

<details><summary>Answer</summary>

Both see 5 x 5 pixels. Two of 3 x 3 have 18 C^2 weights, one of 5 x 5 has 25 C^2; and between the two stands another
relu. That is why networks since 2014 hardly use anything larger than 3 x 3, except for the first layer.
</details>

**2.** A convolution with bias stands directly before a batch norm. What does training do to that bias?

<details><summary>Answer</summary>

Nothing useful. Batch norm subtracts the mean, and the bias is part of it: the output does not depend on it, and its
gradient is 0 up to rounding. Write `Conv2d(..., bias=False)`.
</details>

**3.** Somebody forgets `model.eval()` and sends images through the trained network one by one. Which layers misbehave,
and how would you notice?

<details><summary>Answer</summary>

Dropout drops, and batch norm uses the mean and variance of a single image: a channel's strength over the whole image, which often
was the answer, is normalized away. The accuracy falls, and it depends on the batch size, which is the sign to look for.
Worse, the running statistics move towards those of single images: the model is damaged even after `eval()`.
</details>

**4.** ResNet-50 begins with 64 kernels of 7 x 7 at stride 2 on 3 x 224 x 224. How many weights, multiply-adds and output
numbers per image? How much memory would the patches of a batch of 256 need at once, in float32?

<details><summary>Answer</summary>

Weights: 64 * 3 * 49 = 9,408. Output: 64 * 112 * 112 = 802,816 numbers, 3.2 MB. Multiply-adds: 802,816 * 147 = 118 million.
Patches: 147 numbers for each of 112 * 112 stops, 1.84 million per image, 7.4 MB; for 256 images 1.9 GB, where the images
themselves take 154 MB. In blocks of a megabyte it is a megabyte.
</details>

**5.** ResNet-50 has 25.6 million parameters and needs 4.1 billion multiply-adds per image. A `Linear` layer does one multiply-add
per weight and image. How often, on average, is each weight of ResNet-50 used for one image? What does that say about
the memory traffic of a batch of one?

<details><summary>Answer</summary>

4.1e9 / 25.6e6 = 160 times. A weight that is read once from memory (4 bytes) serves for 160 multiply-adds, so even a
single image can keep the processor busy with computing. A network of `Linear` layers uses each weight once: with a
batch of one it waits for memory. This is why a GPT, which is all `Linear` layers, generates its tokens one by one at the
speed of memory (module 17), and a convolutional network does not.
</details>
"""
