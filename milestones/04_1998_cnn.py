"""1998: the same few weights at every place.

To a fully connected network a picture is a list of numbers. Shuffle its pixels, in the same way for every picture, and
the network learns as well as before: it does not know that two pixels are neighbours. So it has to learn a stroke anew
at every place where the stroke may lie, and its first layer grows with the area of the picture. LeCun, Bottou, Bengio
and Haffner ("Gradient-based learning applied to document recognition", Proceedings of the IEEE 86, 1998) put into the
network what everybody knows about pictures. A convolution looks through a small window, with the same few weights at
every place; pooling then keeps what was seen and gives up a little of where. Layer upon layer, edges become strokes and
strokes become digits. Fukushima's Neocognitron had this shape in 1980, but did not learn by gradients. Their LeNet-5,
with 60,000 weights, read handwritten digits better than fully connected networks several times its size, and a system
built on such networks read several million checks a day.

Different from 1998 here: ReLU, max pooling, batch normalization (2015), momentum, a learning rate that rises and then
falls along a cosine, and pictures that are moved a little (photographs also mirrored) each time they are shown. With
these, the same idea goes from digits to photographs; only the network is wider and deeper.

Data      1,797 real digits of 8 x 8 pixels from the package; 359 of them are held out and never trained on.
          --data cifar10: 60,000 colour photographs of 32 x 32 pixels in ten classes, from TINYTORCH_DATA or the cache
          folder, downloaded if missing; 10,000 are held out. About ten minutes on two cores
Goal      98 % of the held-out digits read correctly (photographs 75 %)
Picture   outputs/04_1998_cnn.png: the first layer's filters, what they see, what is mistaken for what, and the training
"""

import argparse
import os
import time
from pathlib import Path

# The matrix products here are small: on a busy machine two threads wait for each other longer than they work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import tinytorch
from tinytorch import nn, optim
from tinytorch.core.training import CosineSchedule, Trainer
from tinytorch.data import datasets
from tinytorch.data.loader import DataLoader
from tinytorch.data.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip
from tito import pictures

EPOCHS = {"digits": 20, "cifar10": 6}
BATCH = {"digits": 32, "cifar10": 128}
GOAL = {"digits": 0.98, "cifar10": 0.75}
COLOURS = Normalize([0.491, 0.482, 0.447], [0.247, 0.243, 0.262])  # mean and spread of red, green, blue in CIFAR-10


def load(name):
    """Training set, which shows its pictures a little changed each time, held-out set, and the names of the classes."""
    if name == "digits":
        moved = RandomCrop(8, padding=1)
        return datasets.digits("train", transform=moved), datasets.digits("test"), [str(digit) for digit in range(10)]
    changed = Compose([COLOURS, RandomCrop(32, padding=4), RandomHorizontalFlip()])
    return datasets.cifar10("train", changed), datasets.cifar10("test", COLOURS), datasets.CIFAR10_CLASSES


def network(name):
    """Convolutions and pooling, and at the end what LeNet has: a small network that decides."""
    if name == "digits":
        return nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),  # (N, 16, 8, 8)
            *(nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU()),  # (N, 32, 4, 4)
            *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)),
        )
    layers = []
    for wide, wider in ((3, 32), (32, 64), (64, 128)):  # each halves height and width, early: the rest is cheaper
        layers += [nn.Conv2d(wide, wider, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(wider), nn.ReLU()]
    layers += [nn.Conv2d(128, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(4)]  # (N, 128, 1, 1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


def train(model, training, held_out, epochs, batch_size):
    """The Trainer of module 07 does the work. Its history: loss and accuracy of each epoch on both sets."""
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = CosineSchedule(max_lr=0.1, min_lr=0, total_epochs=epochs, warmup=1)
    trainer = Trainer(model, optimizer, nn.CrossEntropyLoss(), scheduler=schedule, schedule_steps=True)
    batches = DataLoader(training, batch_size, shuffle=True, num_workers=1)
    return trainer.fit(batches, epochs, validation=DataLoader(held_out, batch_size=500))


def answers(model, data):
    """The class that the model names for each sample, and the class it is."""
    with tinytorch.no_grad():
        pairs = [(model(images).numpy().argmax(axis=1), labels.numpy()) for images, labels in DataLoader(data, 500)]
    return tuple(np.concatenate(arrays) for arrays in zip(*pairs))


def maps(model, image):
    """What the first layer's filters see in one picture (C, H, W): their answers after the first ReLU, (F, h, w)."""
    first = [type(layer) for layer in model].index(nn.ReLU)
    with tinytorch.no_grad():
        return model[: first + 1](tinytorch.Tensor(image[None])).numpy()[0]


def shown(image):
    """A picture (C, H, W) stretched to 0..1 and with its channels last, as imshow wants it; one channel stays flat."""
    image = (image - image.min()) / max(float(np.ptp(image)), 1e-6)
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def picture(path, model, image, caption, table, names, history, title):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(12, 8.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.25])
    one, filters, seen = above.subfigures(1, 3, width_ratios=[0.75, 1, 1])
    one.suptitle(caption, fontsize=11)
    axis = one.subplots()
    axis.imshow(shown(image), cmap="gray_r")
    axis.axis("off")
    weights = model[0].weight.numpy()
    colour, columns = weights.shape[1] == 3, 4 if len(weights) == 16 else 8
    meaning = "in the picture's colours" if colour else "blue: for ink, red: against"
    filters.suptitle(f"First layer: filters ({meaning})", fontsize=11)
    pictures.tiles(weights, columns=columns, together=not colour, figure=filters)
    seen.suptitle("What each of them sees in it", fontsize=11)
    pictures.tiles(maps(model, image), columns=columns, together=False, figure=seen)

    left, right = below.subfigures(1, 2)
    axis = left.subplots()
    mistakes = table * ~np.eye(10, dtype=bool)
    top = max(5, mistakes.max())
    axis.imshow(mistakes, cmap="Reds", vmin=0, vmax=top)
    for (i, j), count in np.ndenumerate(table):
        if count:
            ink = "white" if mistakes[i, j] > 0.6 * top else "black"
            axis.text(j, i, count, ha="center", va="center", fontsize=9, color=ink)
    axis.set_xticks(range(10), names, rotation=90 if len(names[0]) > 1 else 0)
    axis.set_yticks(range(10), names)
    axis.set(title="What is taken for what (mistakes in red)", xlabel="answer", ylabel="truth")
    axes = right.subplots(2, 1, sharex=True)
    epochs = range(1, len(history["train_loss"]) + 1)
    for part, label, look in (("train", "training, with changes", "o--"), ("validation", "held out", "o-")):
        colour = "#7f7f7f" if part == "train" else "#1f78b4"
        axes[0].plot(epochs, history[f"{part}_loss"], look, ms=3, c=colour, label=label)
        axes[1].plot(epochs, 100 * np.array(history[f"{part}_accuracy"]), look, ms=3, c=colour)
    scale = "log" if min(history["train_loss"]) < 0.1 else "linear"
    axes[0].set(title=title, ylabel="cross-entropy (nats)", yscale=scale)
    axes[0].legend(frameon=False)
    axes[1].set(xlabel="epoch", ylabel="right (%)")
    axes[1].locator_params(axis="x", integer=True)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = Path(__file__).resolve().parents[1] / "outputs"
    parser.add_argument("--data", choices=["digits", "cifar10"], default="digits", help="pictures (default: digits)")
    parser.add_argument("--out", type=Path, default=outputs, help="folder for the picture (default: outputs/)")
    parser.add_argument("--seed", type=int, default=0, help="another start, another order")
    options = parser.parse_args()

    print("1998: a convolutional network looks at pictures through small windows.")
    training, held_out, names = load(options.data)
    tinytorch.manual_seed(options.seed)
    model = network(options.data)
    print(f"{len(training):,} pictures to train on, {len(held_out):,} held out; {model.num_parameters():,} parameters")
    image = held_out[0][0].numpy()
    first, outputs = model[0], model[0].out_channels * image[0].size
    print(f"Its first layer makes {outputs:,} numbers out of {image.size:,} with {first.num_parameters():,} weights;")
    print(f"fully connected, it would need {(image.size + 1) * outputs:,}.")

    start = time.perf_counter()
    epochs, goal = EPOCHS[options.data], GOAL[options.data]
    history = train(model, training, held_out, epochs, BATCH[options.data])
    seconds = time.perf_counter() - start
    model.eval()
    guesses, labels = answers(model, held_out)
    accuracy = float((guesses == labels).mean())

    table = np.zeros((10, 10), int)  # how often each class (row) was taken for each (column)
    np.add.at(table, (labels, guesses), 1)
    worst = max(((i, j) for i in range(10) for j in range(10) if i != j), key=lambda place: table[place])
    truth, answer = (names[place] for place in worst)
    print(f"the most common mistake: {truth} taken for {answer}, {table[worst]} of {table[worst[0]].sum()} times")
    options.out.mkdir(parents=True, exist_ok=True)
    name = "04_1998_cnn.png" if options.data == "digits" else "04_1998_cnn_cifar10.png"
    caption = f"Held out: {names[labels[0]]}; answer: {names[guesses[0]]}"
    picture(options.out / name, model, image, caption, table, names, history, f"{epochs} epochs in {seconds:.0f} s")
    verdict = "PASS" if accuracy >= goal else "FAIL"
    print(f"{verdict}: {accuracy:.1%} of {len(labels):,} held-out pictures right, {seconds:.1f} s (goal: {goal:.0%})")
    return 0 if accuracy >= goal else 1


if __name__ == "__main__":
    raise SystemExit(main())
