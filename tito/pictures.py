"""Pictures for lessons and milestones: `from tito import pictures`.

They are drawn from numbers, arrays and names, and know nothing of the library: whatever NumPy can turn into an array
will do. Each function draws where it is told (`axis=` or `figure=`), else on a new figure of pyplot's, and returns the
axis, or the axes, it drew on. matplotlib is imported when something is drawn.
"""

import math
import os
import sys
import time

import numpy as np

BLUE, ORANGE, GREY = "#1f78b4", "#d95f02", "#7f7f7f"
COLOURS = [BLUE, ORANGE, "#1b9e77", "#7570b3", "#e7298a", "#a6761d", "#666666", "#e6ab02"]


def _figure(width, height):
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def _pairs(named):
    """A dictionary, or pairs (name, value), as a list of pairs; at least one."""
    pairs = list(named.items() if isinstance(named, dict) else named)
    if not pairs:
        raise ValueError("there is nothing to draw: no names and values were given")
    return pairs


def _logarithmic(values):
    """Whether a logarithmic scale shows them better: all positive, and far from alike."""
    values = np.asarray(values, dtype=float)
    return values.size > 1 and values.min() > 0 and values.max() > 10 * values.min()


# Curves


def curves(series, xlabel="step", ylabel="loss", scale=None, axis=None):
    """A line for each name: `series` is a dictionary, or pairs, of names and numbers in their order.

    A number that is None or NaN is left out. Unless `scale` is "linear" or "log", it is logarithmic if the numbers are
    positive and far from alike.
    """
    pairs = [(name, np.array(values, dtype=float)) for name, values in _pairs(series)]
    axis = axis or _figure(6, 2.8).subplots()
    for (name, values), colour in zip(pairs, COLOURS * len(pairs)):
        places = np.flatnonzero(np.isfinite(values))
        axis.plot(places + 1, values[places], c=colour, label=name, marker="o" if len(places) < 2 else None)
    found = np.concatenate([values[np.isfinite(values)] for _, values in pairs])
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale=scale or ("log" if _logarithmic(found) else "linear"))
    axis.locator_params(axis="x", integer=True)
    axis.grid(alpha=0.3)
    if len(pairs) > 1:
        axis.legend(frameon=False)
    return axis


BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-:=+*#"  # for an encoding without blocks


def spark(values, width=40, bars=BARS):
    """Numbers as one line of at most `width` bars, each the mean of its stretch; None and NaN are left out."""
    values = np.array(values, dtype=float)
    values = values[np.isfinite(values)]
    if not values.size:
        return ""
    values = np.log(values) if _logarithmic(values) else values
    values = np.array([part.mean() for part in np.array_split(values, min(width, values.size))])
    spread = np.ptp(values)
    heights = (values - values.min()) / spread * (len(bars) - 1) if spread else np.zeros(values.size)
    return "".join(bars[round(height)] for height in heights)


class Live:
    """Curves that grow while something is trained.

    In a notebook it is one picture, drawn anew; on a terminal a line per curve, with its last number; elsewhere that
    line alone, at the end. Use it in a `with`, at whose end what came last is shown for certain.

        with Live() as live:
            for ...:
                live.add(train=loss, unseen=other)

    `show(series)` takes all numbers so far at once, as a training history holds them.

    pause    seconds from one drawing to the next
    stream   where to write; standard output if None
    """

    def __init__(self, xlabel="step", ylabel="loss", pause=0.5, stream=None):
        self.series = {}
        self.xlabel, self.ylabel, self.pause, self.stream = xlabel, ylabel, pause, stream
        self._screen = None
        self._drawn = -math.inf

    def add(self, **values):
        """The next number of each curve that is named."""
        for name, value in values.items():
            self.series.setdefault(name, []).append(value)
        self._draw()

    def show(self, series):
        """The curves as they are now: a dictionary, or pairs, of names and numbers."""
        self.series = {name: list(values) for name, values in _pairs(series)}
        self._draw()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Show what came last. What is added later begins a new drawing."""
        if self.series:
            self._draw(at_once=True)
        if self._screen is not None:
            self._screen.close()
        self._screen = None

    def _draw(self, at_once=False):
        if not at_once and time.monotonic() - self._drawn < self.pause:
            return
        if self._screen is None:
            stream = self.stream or sys.stdout
            if self.stream is None and _in_notebook():
                self._screen = _Notebook()
            else:
                moves = stream.isatty() and os.environ.get("TERM") != "dumb"
                self._screen = _Terminal(stream) if moves else _Lines(stream)
        self._screen.draw(self)
        self._drawn = time.monotonic()


def _in_notebook():
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    return bool(getattr(shell, "kernel", None))


class _Notebook:
    """One output of the cell, replaced at every drawing."""

    handle = None

    def draw(self, live):
        import io

        from IPython.display import Image, display
        from matplotlib.figure import Figure  # not pyplot's, which would show it once more at the end of the cell

        figure = Figure(figsize=(6, 2.8), layout="constrained")
        curves(live.series, live.xlabel, live.ylabel, axis=figure.subplots())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
        image = Image(file.getvalue(), alt="; ".join(f"{name} {last}" for name, _, last in _rows(live)))
        if self.handle is None:
            self.handle = display(image, display_id=True)
        else:
            self.handle.update(image)

    def close(self):
        pass


def _rows(live, bars=BARS):
    """(name, curve, last number) of each curve, as text."""
    for name, values in live.series.items():
        found = [value for value in values if value is not None]
        yield name, spark(found, bars=bars), f"{found[-1]:.4g}" if found else "nothing yet"


class _Terminal:
    """Lines that are written over at every drawing."""

    def __init__(self, stream):
        from rich.console import Console
        from rich.live import Live as Screen

        self.bars = BARS if "utf" in (getattr(stream, "encoding", None) or "").lower() else PLAIN_BARS
        self.screen = Screen(console=Console(file=stream, highlight=False), auto_refresh=False)
        self.screen.start()

    def draw(self, live):
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, curve, last in _rows(live, self.bars):
            grid.add_row(Text(name, style="bold"), Text(curve, style="cyan", no_wrap=True), Text(last))
        self.screen.update(grid, refresh=True)

    def close(self):
        self.screen.stop()


class _Lines:
    """Nothing until the end, then the last numbers."""

    def __init__(self, stream):
        self.stream = stream

    def draw(self, live):
        self.lines = [f"{name} {last} after {len(live.series[name])}\n" for name, _, last in _rows(live)]

    def close(self):
        self.stream.write("".join(self.lines))


# What goes on inside a network


def _name_bars(axis, names):
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)  # the first above
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right"]].set_visible(False)


def _bars(axis, values, colour=BLUE):
    """Bars on a logarithmic scale, and what cannot be one in words: values are numbers, None where there is none."""
    from matplotlib.ticker import NullFormatter

    drawn = [(i, v) for i, v in enumerate(values) if v is not None and math.isfinite(v) and v > 0]
    low, high = min((v for _, v in drawn), default=1.0), max((v for _, v in drawn), default=1.0)
    left = 10.0 ** math.floor(math.log10(low) - 0.1)
    bars = axis.barh([i for i, _ in drawn], [v for _, v in drawn], 0.7, color=colour)
    axis.set(xscale="log", xlim=(left, high * (high / left) ** 0.35))  # room for the numbers
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.bar_label(bars, [f"{v:.1e}" for _, v in drawn], padding=3, fontsize=8)
    for i, value in enumerate(values):
        if (i, value) not in drawn:
            word = "none" if value is None else "0" if value == 0 else "not a number"
            axis.text(left, i, f" {word}", va="center", fontsize=9, color=ORANGE, weight="bold")
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def gradients(named, axis=None):
    """How large the gradient of each parameter is: a bar for the mean of its absolute values, on a logarithmic scale.

    named   names and gradients, in the order of the network; a gradient is an array, or None where there is none

    Words stand where there can be no bar: "none", "0", "not a number" (NaN or infinite somewhere).
    """
    pairs = _pairs(named)
    axis = axis or _figure(6, 0.9 + 0.27 * len(pairs)).subplots()
    _bars(axis, [None if grad is None else float(np.abs(np.asarray(grad, dtype=float)).mean()) for _, grad in pairs])
    _name_bars(axis, [name for name, _ in pairs])
    axis.set_xlabel("mean |gradient|")
    return axis


def dead(array, tolerance=1e-3):
    """The share of units that say the same to every sample; 1 if the samples cannot be told apart any more.

    array (N, ...)   what a layer made of N samples; each place beyond the first axis is a unit
    tolerance        what counts as the same, as a share of the largest absolute value of the layer
    """
    array = np.asarray(array, dtype=float)
    return float((np.ptp(array, axis=0) <= tolerance * np.abs(array).max()).mean())


def flat(array, tolerance=0.01):
    """The share of values at one end of the range that a layer uses: the zeros of a ReLU, the +-1 of a tanh.

    There the function is flat, and no gradient comes through. `tolerance` is a share of the range.
    """
    array = np.asarray(array, dtype=float)
    margin = tolerance * np.ptp(array)
    return float(((array <= array.min() + margin) | (array >= array.max() - margin)).mean())


def activations(named, figure=None):
    """What becomes of a signal on its way: mean, standard deviation, and what is `flat` or `dead` in each layer.

    named   names and activations (N, ...), from the first layer to the last

    A deep network dies in one of four ways: the deviation shrinks to nothing, or grows beyond all bounds; nearly all
    values come to lie where the activation is flat; or units say the same to every sample.
    """
    pairs = [(name, np.asarray(array, dtype=float)) for name, array in _pairs(named)]
    figure = figure or _figure(9, 1 + 0.24 * len(pairs))
    axes = figure.subplots(1, 3, sharey=True, width_ratios=[1, 1.3, 1.2])
    places = range(len(pairs))
    with np.errstate(all="ignore"):
        means = np.array([array.mean() for _, array in pairs])
        spreads = [float(array.std()) for _, array in pairs]
    sound = [(i, array) for i, (_, array) in enumerate(pairs) if np.isfinite(array).all()]
    axes[0].axvline(0, c=GREY, lw=0.8)
    axes[0].plot(np.where(np.isfinite(means), means, np.nan), places, "o-", c=BLUE, ms=4, lw=1)
    axes[0].grid(axis="x", alpha=0.3)
    axes[0].margins(x=0.15)
    _bars(axes[1], spreads)
    for share, colour, height in ((flat, "#f4c9a4", 0.7), (dead, ORANGE, 0.35)):
        bars = [100 * share(array) for _, array in sound]
        axes[2].barh([i for i, _ in sound], bars, height, color=colour)
    axes[2].set(xlim=(0, 100), xticks=[0, 50, 100])
    for axis, title in zip(axes, ["mean", "standard deviation", "pale: flat values, dark: dead units, %"]):
        axis.set_title(title, fontsize=9)
        _name_bars(axis, [name for name, _ in pairs])
    return axes


# What a model sees, and where it draws the line


def _label(token):
    return str(token).replace(" ", "\u00b7").replace("\n", "\\n").replace("\t", "\\t")


def attention(weights, queries=None, keys=None, titles=None, figure=None):
    """Who looks at whom: a panel per head, a row per query, the darker the larger the share.

    weights   (T, S), or (heads, T, S)
    queries   T tokens for the rows; keys: S tokens for the columns, the same as the queries if left out
    titles    one per head
    """
    weights = np.asarray(weights, dtype=float)
    maps = weights[None] if weights.ndim == 2 else weights
    if maps.ndim != 3:
        raise ValueError(f"attention needs weights (T, S) or (heads, T, S), got shape {weights.shape}")
    H, T, S = maps.shape
    keys = queries if keys is None and T == S else keys
    for name, tokens, length in (("queries", queries, T), ("keys", keys, S), ("titles", titles, H)):
        if tokens is not None and len(tokens) != length:
            raise ValueError(f"attention got {len(tokens)} {name} for weights of shape {weights.shape}")
    columns = min(H, 4)
    rows = math.ceil(H / columns)
    figure = figure or _figure(0.8 + 2.6 * columns, 0.4 + 2.9 * rows * max(0.5, min(1.5, T / S)))
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in axes[H:]:
        axis.remove()
    axes = np.array(axes[:H])
    if titles is None:
        titles = [f"head {i + 1}" for i in range(H)] if H > 1 else [""]
    for axis, shares, title in zip(axes, maps, titles):
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.locator_params(integer=True)
        axis.set_title(title, fontsize=10)
        if queries is not None:
            axis.set_yticks(range(T), map(_label, queries), fontsize=8)
        if keys is not None:
            axis.set_xticks(
                range(S), map(_label, keys), fontsize=8, rotation=90 if max(map(len, map(str, keys))) > 2 else 0
            )
    for axis in axes[-columns:]:
        axis.set_xlabel("looks at")
    for axis in axes[::columns]:
        axis.set_ylabel("query")
    figure.colorbar(image, ax=list(axes), label="share", shrink=0.8)
    return axes


def boundary(score, points, labels, names=None, axis=None):
    """Where a model of two inputs draws the line: the plane in the colours of its answers, and the points on it.

    score    from points (n, 2) to numbers: (n,) or (n, 1), where positive means the second class; or (n, classes)
    points   (N, 2), labels (N,)
    names    what to call the classes, in the order of their labels

    The picture reaches a little beyond the outermost points.
    """
    from matplotlib.colors import ListedColormap, to_rgb

    points, labels = np.asarray(points, dtype=np.float32), np.asarray(labels).reshape(-1)
    classes = np.unique(labels)
    names = [str(each) for each in classes] if names is None else names
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    across, up = (np.linspace(low[i], high[i], 200, dtype=np.float32) for i in range(2))
    field = np.asarray(score(np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)))
    field = field.reshape(len(field), -1)
    answers = (field[:, 0] > 0).astype(int) if field.shape[1] == 1 else field.argmax(axis=1)
    count = max(len(classes), answers.max() + 1)
    pale = ListedColormap([tuple(1 - 0.22 * (1 - v) for v in to_rgb(COLOURS[i % len(COLOURS)])) for i in range(count)])
    axis = axis or _figure(4.6, 4).subplots()
    axis.pcolormesh(across, up, answers.reshape(200, 200), cmap=pale, vmin=-0.5, vmax=count - 0.5, rasterized=True)
    for i in range(count - (field.shape[1] == 1)):
        share = field[:, 0] if field.shape[1] == 1 else field[:, i] - np.delete(field, i, axis=1).max(axis=1)
        if share.min() < 0 < share.max():
            axis.contour(across, up, share.reshape(200, 200), levels=[0], colors="#444444", linewidths=0.8)
    for i, (each, name) in enumerate(zip(classes, names)):
        chosen = points[labels == each]
        axis.scatter(
            *chosen.T,
            s=22,
            c=COLOURS[i % len(COLOURS)],
            marker="osD^v<>p"[i % 8],
            edgecolors="white",
            lw=0.5,
            label=name,
        )
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return axis


def tiles(images, titles=None, columns=8, together=True, size=1.1, figure=None):
    """Small pictures side by side: digits, filters, feature maps.

    images    (n, H, W), (n, 1, H, W), or (n, 3, H, W) for colours; or a list of such single ones
    titles    one per picture
    together  one scale for all, so that they can be compared; else each has its own
    size      of one, in inches

    Where something is negative, blue is positive, red negative, white 0; else the darker the larger.
    """
    images = [np.asarray(image, dtype=float) for image in images]
    images = [image[0] if image.ndim == 3 and len(image) == 1 else image for image in images]
    if not images or any(image.ndim != 2 and (image.ndim, len(image)) != (3, 3) for image in images):
        raise ValueError(f"tiles needs images (H, W) or (3, H, W), got {[image.shape for image in images][:3]}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"tiles got {len(titles)} titles for {len(images)} images")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    figure = figure or _figure(size * columns, (size if titles is None else size + 0.3) * rows)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in axes[len(images) :]:
        axis.remove()
    axes = np.array(axes[: len(images)])
    for i, (axis, image) in enumerate(zip(axes, images)):
        scale = images if together else [image]
        low, high = min(each.min() for each in scale), max(each.max() for each in scale)
        if image.ndim == 3:
            axis.imshow((image.transpose(1, 2, 0) - low) / (high - low or 1))
        elif low < 0:
            axis.imshow(image, cmap="RdBu", vmin=-max(-low, high), vmax=max(-low, high))
        else:
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=high or 1)
        if titles is not None:
            axis.set_title(titles[i], fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#bbbbbb")
    return axes
