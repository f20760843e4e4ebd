"""How time and memory grow with the size: `python -m benchmarks growth` draws it, TinyTorch's and PyTorch's.

An exponent p says that twice the size takes 2^p times as long. It is fitted by least squares between the logarithms
over the upper half of the sizes, where what each call costs whatever its size no longer counts.
"""

import json
import math
from typing import NamedTuple

import numpy as np

from benchmarks import measure, report
from benchmarks.workloads import check, mlp, one_operation

LIBRARIES = ("tinytorch", "torch")


class Curve(NamedTuple):
    title: str
    axis: str
    sizes: list
    build: object  # function of a size that returns {library: build}, as workloads do
    needs: float  # the exponent of the textbook's algorithm for large sizes
    memory: bool = False


def attention(context):
    """Forward and backward, causal, 4 heads of 32."""
    shape = 1, 4, context, 32
    return one_operation(
        lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, causal=True)[0],
        lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        None,
        shape,
        shape,
        shape,
    )


def depth(operations):
    """A chain of operations on 8 numbers, y * x + x over and over, forward and backward."""
    values = np.linspace(-0.9, 0.9, 8, dtype=np.float32)

    def built(x, array):
        def step():
            y = x
            for _ in range(operations // 2):
                y = y * x + x
            x.grad = None
            y.sum().backward()
            return y

        return step, lambda: [array(step()), np.asarray(x.grad)]

    def in_tinytorch():
        import tinytorch

        return built(tinytorch.tensor(values, requires_grad=True), lambda y: y.data)

    def in_torch():
        import torch

        return built(torch.tensor(values, requires_grad=True), lambda y: y.detach().numpy())

    return {"tinytorch": in_tinytorch, "torch": in_torch}


def adamw(count):
    """A step over one parameter."""
    rng = np.random.default_rng(0)
    array = rng.standard_normal(round(count), dtype=np.float32)

    def built(tensor, optim, array_of):
        tensor.grad = tensor.detach() * 0.1 if optim.__name__.startswith("torch") else array * np.float32(0.1)
        step = optim.AdamW([tensor], lr=1e-3).step
        return step, lambda: [step()] and [array_of(tensor).copy()]

    def in_tinytorch():
        import tinytorch

        return built(tinytorch.tensor(array, requires_grad=True), tinytorch.optim, lambda t: t.data)

    def in_torch():
        import torch

        return built(torch.tensor(array, requires_grad=True), torch.optim, lambda t: t.detach().numpy())

    return {"tinytorch": in_tinytorch, "torch": in_torch}


def doubling(first, last):
    return [first * 2**i for i in range(round(math.log2(last / first)) + 1)]


CURVES = {
    "attention": Curve("causal attention, 4 heads of 32", "context", doubling(64, 2048), attention, 2),
    "attention memory": Curve(
        "causal attention, peak memory", "context", doubling(64, 2048), attention, 2, memory=True
    ),
    "batch": Curve("whole step of the MLP 784-512-256-10", "batch", doubling(1, 512), lambda n: mlp(n / 128), 1),
    "depth": Curve("forward and backward of a chain", "operations", [10, 100, 1000, 10_000, 100_000], depth, 1),
    "parameters": Curve("step of AdamW", "parameters", [10 ** (4 + i / 2) for i in range(8)], adamw, 1),
}


def curve(name):
    """Print {library: values} of a curve in JSON: seconds, or bytes of one library after the other."""
    name, _, library = name.partition(":")
    found = CURVES[name]
    if found.memory:
        found.build(found.sizes[0])[library]()[0]()  # what is loaded once is loaded
        values = {library: [measure.peak_memory(found.build(size)[library]()[0]) for size in found.sizes]}
    else:
        import torch

        torch.set_num_threads(1)
        values = {library: [] for library in LIBRARIES}
        for size in found.sizes:
            built = {library: build() for library, build in found.build(size).items() if library in LIBRARIES}
            check(built, "torch")
            steps = {library: step for library, (step, _) in built.items()}
            for library, times in measure.interleaved(steps, 5, 0.05, measure.clock_for(1)).items():
                values[library].append(times["minimum"])
    print(json.dumps(values))


def exponent(sizes, values):
    """Over the upper half; None where nothing was measured."""
    if any(not value for value in measure.upper_half(sizes, values)[1]):
        return None
    return measure.slope(*measure.upper_half(sizes, values))


def draw(file):
    """Measure all curves, each in a process of its own, print the exponents and write the picture. Returns
    {name: {"sizes": ..., "values": {library: ...}, "exponents": {library: ...}}}."""
    from benchmarks.__main__ import run

    found = {}
    for name, wanted in CURVES.items():
        processes = [f"{name}:{library}" for library in LIBRARIES] if wanted.memory else [name]
        values = {library: column for process in processes for library, column in next(run("--curve", process)).items()}
        exponents = {library: exponent(wanted.sizes, column) for library, column in values.items()}
        found[name] = {"sizes": wanted.sizes, "values": values, "exponents": exponents}
        said = ", ".join(f"{report.called(library)} {words(p)}" for library, p in exponents.items())
        print(f"{wanted.title:40} grows like {wanted.axis} to the power of {said}", flush=True)
    picture(found, file)
    print(file)
    return found


def words(p):
    return "?" if p is None else f"{p:.2f}"


def picture(found, file):
    """One panel for each curve that `draw` found."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(2, 3).flat)
    for axes, (name, curve) in zip(panels, found.items()):
        wanted, sizes = CURVES[name], curve["sizes"]
        unit = 2**20 if wanted.memory else 1e-3
        for library, color in (("torch", "tab:orange"), ("tinytorch", "tab:blue")):
            points = [(size, value / unit) for size, value in zip(sizes, curve["values"][library]) if value]
            label = f"{report.called(library)}, exponent {words(curve['exponents'][library])}"
            axes.plot(*zip(*points), "o-", ms=4, color=color, label=label)
        upper, last = [point for point in points if point[0] in measure.upper_half(sizes, sizes)[0]], points[-1]
        guide = [last[1] * 0.4 * (size / last[0]) ** wanted.needs for size, _ in upper]
        label = f"exponent {wanted.needs}, for comparison"
        axes.plot([size for size, _ in upper], guide, ":", color="gray", label=label)
        axes.set(xscale="log", yscale="log", title=wanted.title, xlabel=wanted.axis)
        if sizes[-1] < 10_000:
            axes.set_xticks(sizes, sizes)
            axes.minorticks_off()
        axes.set_ylabel("MiB beyond the start" if wanted.memory else "milliseconds, fastest")
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False, loc="upper left")
    for axes in panels[len(found) :]:
        axes.axis("off")
        axes.text(0, 0.95, EXPLANATION, va="top", fontsize=9, transform=axes.transAxes)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


EXPLANATION = f"""How time and memory grow.

Both axes are logarithmic: a power of the size is
a straight line, and its exponent the slope, fitted
over the upper half of the sizes (by logarithm).
Float32, one thread each, both in turns, in the\ntime of the processor.

{report.processor()}"""
