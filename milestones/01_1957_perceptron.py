"""1957: a machine that learns from its mistakes.

McCulloch and Pitts had shown in 1943 that simple threshold units can compute, but a human had to choose every weight.
Frank Rosenblatt's perceptron (report 85-460-1, Cornell Aeronautical Laboratory, 1957; Psychological Review 65,
1958) finds its weights itself. It looks at one example at a time and answers +1 or -1, depending on the side of a line
the example lies on. If the answer is right, nothing happens. If it is wrong, the example itself, times its label, is
added to the weights. That is all. If a line exists that separates the examples, this finds one after a finite number
of mistakes (Novikoff 1962).

In the language of this course the rule is a loss: relu(-label * score) is 0 for a right answer, and for a wrong one its
gradient with respect to the weights is -label * example. A step of SGD with learning rate 1 is then Rosenblatt's rule.

Data      200 points in the plane on two sides of a line, and 1,000 new ones from the same source
Goal      no mistake left on the 200 within 100 rounds, and at least 97 % of the new points right
Picture   outputs/01_1957_perceptron.png: the line it found, and its mistakes round by round
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

ROUNDS, GOAL = 100, 0.97


def points(n, line, rng):
    """n points in the square -1..1 and their labels +1 / -1; none closer to the line than 0.02."""
    x = rng.uniform(-1, 1, (4 * n, 2))
    distance = x @ line[:2] + line[2]
    x, distance = x[abs(distance) > 0.02][:n], distance[abs(distance) > 0.02][:n]
    return x.astype(np.float32), np.sign(distance).astype(np.float32)


def train(machine, x, labels, rng):
    """Show the points one by one, in a new order each round, until a round without a mistake. Mistakes per round."""
    rule = optim.SGD(machine.parameters(), lr=1.0)
    mistakes = []
    for round_number in range(1, ROUNDS + 1):
        mistakes.append(0)
        for i in rng.permutation(len(x)):
            score = machine(tinytorch.Tensor(x[i : i + 1]))
            loss = F.relu(-float(labels[i]) * score).sum()
            if loss.item() > 0:  # a mistake: only now do the weights change
                machine.zero_grad()
                loss.backward()
                rule.step()
                mistakes[-1] += 1
        if round_number <= 3 or round_number % 5 == 0 or mistakes[-1] == 0:
            print(f"  round {round_number:3d}   {mistakes[-1]:3d} mistakes", flush=True)
        if mistakes[-1] == 0:
            break
    return mistakes


def scores(machine, x):
    with tinytorch.no_grad():
        return machine(tinytorch.Tensor(x)).numpy()[:, 0]


def answers(machine, x):
    return np.sign(scores(machine, x))


def picture(path, machine, x, labels, new, new_labels, mistakes):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    pictures.boundary(partial(scores, machine), x, labels, ["label -1", "label +1"], left)
    wrong = new[answers(machine, new) != new_labels]
    left.scatter(
        *wrong.T, s=45, c="black", marker="x", label=f"new points it gets wrong ({len(wrong)} of {len(new):,})"
    )
    left.set(title="The line that the perceptron found", xlabel="first input", ylabel="second input", aspect="equal")
    left.set(xticks=[-1, -0.5, 0, 0.5, 1], yticks=[-1, -0.5, 0, 0.5, 1])
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False, fontsize=9)
    right.plot(range(1, len(mistakes) + 1), mistakes, "o-", c="#1f78b4", ms=4)
    right.set(
        title="It learns from mistakes until it makes none", xlabel="round", ylabel="mistakes on 200 points", ylim=0
    )
    right.locator_params(integer=True)
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = Path(__file__).resolve().parents[1] / "outputs"
    parser.add_argument("--out", type=Path, default=outputs, help="folder for the picture (default: outputs/)")
    parser.add_argument("--seed", type=int, default=0, help="another line, other points, another start")
    options = parser.parse_args()

    tinytorch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    angle = rng.uniform(0, 2 * np.pi)
    line = np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.3, 0.3)])
    x, labels = points(200, line, rng)
    new, new_labels = points(1000, line, rng)

    print("1957: the perceptron. Two weights, one bias, and a rule: learn from mistakes only.")
    machine = nn.Linear(2, 1)
    i = int(np.argmax(answers(machine, x) != labels))
    F.relu(-float(labels[i]) * machine(tinytorch.Tensor(x[i : i + 1]))).sum().backward()
    print(f"Point {x[i].round(2)} has label {labels[i]:+.0f} and is answered {answers(machine, x[i : i + 1])[0]:+.0f}.")
    print(f"  the rule adds label * point   = {(labels[i] * x[i]).round(2)}")
    print(f"  minus the gradient of the loss = {(-machine.weight.grad[:, 0]).round(2)}")

    start = time.perf_counter()
    mistakes = train(machine, x, labels, rng)
    seconds = time.perf_counter() - start
    right = float((answers(machine, x) == labels).mean())
    accuracy = float((answers(machine, new) == new_labels).mean())

    options.out.mkdir(parents=True, exist_ok=True)
    picture(options.out / "01_1957_perceptron.png", machine, x, labels, new, new_labels, mistakes)
    passed = mistakes[-1] == 0 and right == 1 and accuracy >= GOAL
    print(
        f"{sum(mistakes)} mistakes in {len(mistakes)} rounds, {seconds:.1f} s; {right:.1%} of the 200 points are right"
    )
    verdict = "PASS" if passed else "FAIL"
    print(f"{verdict}: {accuracy:.1%} of 1,000 new points right (goal: {GOAL:.0%}, and no mistake left on the 200)")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
