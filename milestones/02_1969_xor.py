"""1969: the problem one layer cannot solve.

Marvin Minsky and Seymour Papert's book "Perceptrons" (MIT Press, 1969) asked what a perceptron can compute at all, and
found simple things that it cannot. The smallest is XOR: answer yes if exactly one of two inputs is on. One layer
answers yes where w1 * x1 + w2 * x2 + b > 0, so with inputs 0 (off) and 1 (on) it would need

    off, off: no     b <= 0                     on, off: yes    w1 + b > 0
    on, on:   no     w1 + w2 + b <= 0           off, on: yes    w2 + b > 0

Add the two on the right: w1 + w2 + 2b > 0. Add the two on the left: w1 + w2 + 2b <= 0. Both cannot be. No amount of
training helps; no line separates the corners of a square crosswise. Three corners of four is the best a line can do.

Two layers can: the hidden units bend the plane, and in the bent plane one line is enough. In 1969 that was known, but
not how a hidden unit should learn, for nobody tells it what its answer should have been. Money and interest went
elsewhere for more than a decade. The answer, the chain rule, is module 05, and it does the work here.

Data      200 points around the four corners, and 1,000 new ones
Goal      the single layer stays at 80 % or less; two layers get at least 99 % of the new points right
Picture   outputs/02_1969_xor.png: what each of the two can draw, and their losses
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

import tinytorch
from tinytorch import nn, optim
from tinytorch.nn import functional as F
from tito import pictures

STEPS, STUCK, GOAL = 300, 0.80, 0.99


def points(n, rng):
    """n points scattered around the corners (+-1, +-1); the answer is yes where the signs differ."""
    corners = rng.choice([-1.0, 1.0], (n, 2))
    x = corners + rng.normal(0, 0.25, (n, 2))
    return x.astype(np.float32), (corners[:, :1] != corners[:, 1:]).astype(np.float32)


def train(name, model, x, yes):
    """Gradient steps on all points at once; the loss at each step."""
    print(f"{name}: {sum(parameter.size for parameter in model.parameters())} numbers to learn")
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    x, yes = tinytorch.Tensor(x), tinytorch.Tensor(yes)
    losses = []
    for step in range(1, STEPS + 1):
        loss = F.binary_cross_entropy_with_logits(model(x), yes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 1 or step % 75 == 0:
            print(
                f"  step {step:3d}   loss {losses[-1]:.3f}   right {accuracy(model, x.numpy(), yes.numpy()):6.1%}",
                flush=True,
            )
    return losses


def scores(model, x):
    with tinytorch.no_grad():
        return model(tinytorch.Tensor(x)).numpy()


def accuracy(model, x, yes):
    return float(((scores(model, x) > 0) == (yes > 0.5)).mean())


def picture(path, models, losses, x, yes):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 5.4), layout="constrained")
    for axis, (name, model) in zip(axes, models.items()):
        pictures.boundary(partial(scores, model), x, yes, ["no", "yes: exactly one is on"], axis)
        axis.get_legend().remove()
        axis.set(title=f"{name}: {accuracy(model, x, yes):.1%} right", xlabel="first input", ylabel="second input")
        axis.set(xticks=[-1, 1], xticklabels=["off", "on"], yticks=[-1, 1], yticklabels=["off", "on"])
        axis.set_box_aspect(1)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False)
    for name, colour, style in zip(models, ("#7f7f7f", "#1f78b4"), ("--", "-")):
        axes[2].plot(range(1, STEPS + 1), losses[name], style, c=colour, label=name)
    axes[2].axhline(np.log(2), c="#d95f02", lw=1, ls=":", label="guessing, log 2 = 0.69")
    top = 1.05 * max(max(values) for values in losses.values())
    axes[2].set(title="Loss while training", xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, top))
    axes[2].legend(frameon=False, loc="center right")
    axes[2].grid(alpha=0.3)
    axes[2].set_box_aspect(1)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = Path(__file__).resolve().parents[1] / "outputs"
    parser.add_argument("--out", type=Path, default=outputs, help="folder for the picture (default: outputs/)")
    parser.add_argument("--seed", type=int, default=0, help="other points, another start")
    options = parser.parse_args()

    tinytorch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    x, yes = points(200, rng)
    new, new_yes = points(1000, rng)

    print("1969: XOR. First the machine of 1957, then the same with a hidden layer.")
    models = {
        "one layer": nn.Linear(2, 1),
        "two layers": nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)),
    }
    start = time.perf_counter()
    losses = {name: train(name, model, x, yes) for name, model in models.items()}
    seconds = time.perf_counter() - start
    one, two = (accuracy(model, new, new_yes) for model in models.values())

    options.out.mkdir(parents=True, exist_ok=True)
    picture(options.out / "02_1969_xor.png", models, losses, new, new_yes)
    passed = one <= STUCK and two >= GOAL
    print(f"one layer gets {one:.1%} of 1,000 new points right; the best of all lines gets about three quarters")
    verdict = "PASS" if passed else "FAIL"
    print(
        f"{verdict}: two layers get {two:.1%}, in {seconds:.1f} s (goal: {GOAL:.0%}, and one layer at most {STUCK:.0%})"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
