"""1986: hidden layers learn, and read handwriting.

What was missing in 1969 was a way to tell a hidden unit how wrong it was. David Rumelhart, Geoffrey Hinton and Ronald
Williams ("Learning representations by back-propagating errors", Nature 323, 1986) showed that the chain rule does it:
layer by layer from the back, for about twice the price of computing the answer. Hidden units then find out for
themselves which features of the input are worth knowing. Others had found the rule before (Linnainmaa in 1970 for any
chain of operations, Werbos in 1974); this paper made people use it. Three years later such a network, with
convolutions, read the postcodes on American letters (LeCun and others 1989).

Different from 1986 here: ReLU instead of sigmoid units, Adam instead of plain gradient steps, dropout, and a much
faster computer.

Data      1,797 real digits of 8 x 8 pixels from the package; 359 of them are held out and never trained on.
          --data mnist: MNIST (28 x 28), from TINYTORCH_DATA or the cache folder, downloaded if missing. Where only its
          10,000 test digits can be had, 8,000 of them are trained on and 2,000 held out, with a lower goal
Goal      96.5 % of the held-out digits read correctly (MNIST 97 %; with its test digits only, 95 %)
Picture   outputs/03_1986_mlp.png: what it read correctly, what it got wrong, and how the loss fell
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np

import tinytorch
from tinytorch import nn, optim
from tinytorch.data.datasets import digits, mnist
from tinytorch.data.loader import DataLoader, random_split
from tinytorch.nn import functional as F


def load(name):
    """Training set, held-out set, epochs to train, and the accuracy to reach."""
    if name == "digits":
        return digits("train"), digits("test"), 60, 0.965
    try:
        return mnist("train"), mnist("test"), 10, 0.97
    except FileNotFoundError:
        held_out = mnist("test")  # not here either? Then this error says what to fetch
    print(
        "The 60,000 training digits of MNIST are not here and could not be downloaded, only its 10,000 test digits are."
    )
    print("So 8,000 of those are trained on and the other 2,000 held out. The goal is 95 %.")
    return *random_split(held_out, [8_000, 2_000], seed=1986), 20, 0.95


def network(pixels):
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(pixels, 256), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2)),
        nn.Linear(128, 10),
    )


def train(model, loader, epochs, held_out):
    """The whole of learning: guess, compare, send the blame back, take a step. Loss of each epoch on both sets."""
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    history = []
    for epoch in range(epochs):
        optimizer.lr = 2e-3 * (1 + math.cos(math.pi * epoch / epochs)) / 2  # large steps first, small ones at the end
        total = 0.0
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        history.append((total / len(loader.dataset), *judge(model, held_out)[:2]))
        if epoch == 0 or (epoch + 1) % max(1, epochs // 10) == 0:
            line = "  epoch {:2d}   loss {:.4f}   held out: loss {:.4f}, right {:.1%}"
            print(line.format(epoch + 1, *history[-1]), flush=True)
    return history


def judge(model, data):
    """Mean loss, accuracy, and the answer for each sample."""
    model.eval()
    with tinytorch.no_grad():
        pairs = [(model(images).numpy(), labels.numpy()) for images, labels in DataLoader(data, batch_size=500)]
    model.train()
    logits, labels = (np.concatenate(arrays) for arrays in zip(*pairs))
    loss = F.cross_entropy(tinytorch.Tensor(logits), tinytorch.Tensor(labels)).item()
    return loss, float((logits.argmax(axis=1) == labels).mean()), logits.argmax(axis=1)


def glimpse(images, labels, answers):
    """Six digits in characters, the darker the inkier; the last two are ones it got wrong, if there are any."""
    wrong = np.flatnonzero(answers != labels)[:2]
    chosen = [*np.flatnonzero(answers == labels)[: 6 - len(wrong)], *wrong]
    step = images.shape[-1] // 8 if images.shape[-1] < 16 else 2
    rows = [(images[i, 0, ::step, ::step] * 9.99).astype(int) for i in chosen]
    width = 2 * rows[0].shape[1] if step == 1 else rows[0].shape[1]
    inked = [line for line in zip(*rows) if any(part.any() for part in line)]
    for line in inked:
        print(
            "   ".join("".join(" .:-=+*#%@"[level] * (width // len(part)) for level in part) for part in line).rstrip()
        )
    captions = [f"{answers[i]}" if answers[i] == labels[i] else f"{answers[i]}, is {labels[i]}" for i in chosen]
    print("   ".join(f"reads {caption}".center(width) for caption in captions).rstrip())


def picture(path, images, labels, answers, history, title):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(13, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    wrong = np.flatnonzero(answers != labels)
    correct = np.flatnonzero(answers == labels)[:24]
    left.suptitle(
        f"It reads {len(labels) - len(wrong):,} of {len(labels):,} held-out digits correctly; in red, mistakes"
    )
    shown = [*correct, *wrong[:16]]
    axes = left.subplots(math.ceil(len(shown) / 8), 8)
    for axis, i in zip(axes.flat, [*shown, *[None] * (axes.size - len(shown))]):
        axis.axis("off")
        if i is not None:
            axis.imshow(images[i, 0], cmap="gray_r", vmin=0, vmax=1)
            good = answers[i] == labels[i]
            caption = f"{answers[i]}" if good else f"{answers[i]}, is {labels[i]}"
            axis.set_title(caption, color="#1b7837" if good else "#b2182b", fontsize=10)
    axis = right.subplots()
    trained, held_out, right_share = np.array(history).T
    epochs = range(1, len(history) + 1)
    axis.plot(epochs, trained, c="#7f7f7f", ls="--", label="training digits")
    axis.plot(epochs, held_out, c="#1f78b4", label="held-out digits")
    axis.set(title=title, xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = Path(__file__).resolve().parents[1] / "outputs"
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="which digits (default: digits)")
    parser.add_argument("--out", type=Path, default=outputs, help="folder for the picture (default: outputs/)")
    parser.add_argument("--seed", type=int, default=0, help="another start, another order")
    options = parser.parse_args()

    print("1986: a network with hidden layers reads handwritten digits.")
    training, held_out, epochs, goal = load(options.data)
    tinytorch.manual_seed(options.seed)
    images, labels = (tensor.numpy() for tensor in held_out[:])
    model = network(images[0].size)
    print(f"{len(training):,} digits to train on, {len(held_out):,} held out; {model.num_parameters():,} parameters")

    start = time.perf_counter()
    history = train(model, DataLoader(training, batch_size=32, shuffle=True), epochs, held_out)
    seconds = time.perf_counter() - start
    _, accuracy, answers = judge(model, held_out)

    glimpse(images, labels, answers)
    options.out.mkdir(parents=True, exist_ok=True)
    name = "03_1986_mlp.png" if options.data == "digits" else "03_1986_mlp_mnist.png"
    picture(options.out / name, images, labels, answers, history, f"Loss, {epochs} epochs in {seconds:.1f} s")
    verdict = "PASS" if accuracy >= goal else "FAIL"
    print(
        f"{verdict}: {accuracy:.1%} of {len(labels):,} held-out digits right, after {seconds:.1f} s (goal: {goal:.1%})"
    )
    return 0 if accuracy >= goal else 1


if __name__ == "__main__":
    raise SystemExit(main())
