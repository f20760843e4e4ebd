# Generated from modules/09_spatial/09_spatial.py by `tito export`. To change this file, edit the lesson and export again.
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
from tinytorch.core.tensor import Tensor, astype, floating, from_numpy, generator, result


def _stops(length, kernel, stride=1, padding=0, dilation=1):
    """At how many places a kernel stops along an axis of `length` pixels, with `padding` more at both ends together."""

    reach = dilation * (kernel - 1) + 1
    return (length + padding - reach) // stride + 1


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


def _patches(sweep, flat, block, buffer):
    """What every tap reads at every stop of a block, in `buffer`: (groups, C / groups * KH * KW, n * rows * pitch)."""
    n, rows, pitch = sweep.size(block)
    C, (KH, KW) = sweep.image[1], sweep.weight[2:]
    patches = _front(buffer, C, KH, KW, n, rows * pitch)

    for i, j, run in sweep.taps(flat, block):
        patches[:, i, j] = run.swapaxes(0, 1)

    return patches.reshape(sweep.groups, -1, n * rows * pitch)


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

        np.matmul(kernels, _patches(sweep, flat, block, room), out=sums)
        sums = sums.reshape(F, n, rows, pitch)[..., :OW].swapaxes(0, 1)
        images, lines = block
        np.add(sums, shift, out=out[images, :, lines])

    return out


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

    for block in sweep.blocks():
        patches = _patches(sweep, flat, block, pixels)
        total += patches @ _at_stops(sweep, grad, block, slopes).swapaxes(1, 2)

    return total.swapaxes(1, 2).reshape(sweep.weight)


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

        np.matmul(kernels, _at_stops(sweep, grad, block, slopes), out=shares)
        shares = shares.reshape(G * C, KH, KW, n, rows * pitch)
        for i, j, run in sweep.taps(flat, block):
            run += shares[:, i, j].swapaxes(0, 1)

    return sweep.pick_up(flat)


_AXES = {1: "(N, C, L)", 2: "(N, C, H, W)"}


def _operands(op, axes, x, weight, bias):
    """Images, kernels and bias as floating tensors of one dtype, with the right number of axes."""
    tensors = [floating(x), floating(weight)] + ([] if bias is None else [floating(bias)])
    dtype = np.result_type(*(tensor.dtype for tensor in tensors))
    x, weight, *bias = (astype(tensor, dtype) for tensor in tensors)
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


class Conv2dBackward(Function, op="conv2d"):
    """Linear in x and in weight: dx is the adjoint applied to grad, dweight sums pixel * grad over the stops."""

    def backward(self, grad):
        x, weight, *bias = self.inputs
        sweep = self.saved["sweep"]
        grad = grad.reshape(len(grad), sweep.weight[0], *sweep.stops)

        dx = _scatter(sweep, grad, weight.data).reshape(x.shape) if self.needs[0] else None
        dweight = _weigh(sweep, x.data, grad).reshape(weight.shape) if self.needs[1] else None
        return dx, dweight, *(grad.sum(axis=(0, 2, 3)) for _ in bias)


class Conv1dBackward(Conv2dBackward, op="conv1d"):
    """As for images, of one row."""


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

        dx = _correlate(sweep, grad, weight.data).reshape(x.shape) if self.needs[0] else None
        at_stops = x.data.reshape(len(grad), C, *sweep.stops)
        dweight = _weigh(sweep, grad, at_stops).reshape(weight.shape) if self.needs[1] else None
        return dx, dweight, *(grad.sum(axis=(0, 2, 3)) for _ in bias)


class ConvTranspose1dBackward(ConvTranspose2dBackward, op="conv_transpose1d"):
    """As for images, of one row."""


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

    bordered = _bordered(x.data, padding, -np.inf)
    across = _combined(np.maximum, bordered, -1, columns)
    out = _combined(np.maximum, across, -2, rows)

    saved = {"padding": padding, "rows": rows, "columns": columns}
    return result(out, "max_pool2d", x, bordered=bordered, across=across, out=out, **saved)


def _to_first(grad, array, extreme, axis, slices):
    """Send grad to the first of the slices of `array` that equals `extreme`; the last takes what nobody took."""
    out = np.zeros_like(array)

    for s in slices:
        place = (..., s, slice(None)) if axis == -2 else (..., s)
        if s is slices[-1]:
            out[place] += grad
        else:
            hit = array[place] == extreme
            out[place] += grad * hit
            grad = grad * ~hit  # what the later ones may still take
    return out


class MaxPool2dBackward(Function, op="max_pool2d"):
    """First to the row of the window that held the largest pixel, then to the pixel in that row."""

    def backward(self, grad):
        saved = self.saved

        dacross = _to_first(grad, saved["across"], saved["out"], -2, saved["rows"])
        dx = _to_first(dacross, saved["bordered"], saved["across"], -1, saved["columns"])
        return _without_border(dx, saved["padding"])


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

    bordered = _bordered(x.data, padding, 0)
    out = _combined(np.add, _combined(np.add, bordered, -1, columns), -2, rows)
    out /= len(rows) * len(columns)

    return result(out, "avg_pool2d", x, shape=bordered.shape, padding=padding, rows=rows, columns=columns)


class AvgPool2dBackward(Function, op="avg_pool2d"):
    """Every pixel of a window counts 1 / area in its mean."""

    def backward(self, grad):
        shape, padding, rows, columns = (self.saved[key] for key in ("shape", "padding", "rows", "columns"))

        dx = _shared_out(grad / (len(rows) * len(columns)), shape, rows, columns)
        return _without_border(dx, padding)


def _shares(length, count):
    """`count` windows that cover `length` pixels; window i goes from floor(i * share) to ceil((i + 1) * share)."""

    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


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
    dtype = np.result_type(x.dtype, weight.dtype, bias.dtype)
    x, weight, bias = (astype(tensor, dtype) for tensor in (x, weight, bias))
    values = x.data.reshape(N, C, S)
    out = np.empty_like(values)
    mean, scale = np.empty_like(values, shape=(C, 1)), np.empty_like(values, shape=(C, 1))
    if not training:
        mean[:, 0], scale[:, 0] = running_mean, (np.asarray(running_var, dtype) + eps) ** -0.5
    for c in _channel_blocks(N, C, S):
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

    return result(out.reshape(x.shape), "batch_norm", x, weight, bias, mean=mean, scale=scale, training=training)


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

        return None if dx is None else dx.reshape(x.shape), dweight, dbias


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

        momentum = self.momentum
        if momentum is None:
            momentum = 1 / (1 + int(self.num_batches_tracked))
        out = batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps
        )
        if self.training:
            self.num_batches_tracked += 1
        return out

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L)."""

    shapes = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W)."""

    shapes = {4: "(N, C, H, W)"}
