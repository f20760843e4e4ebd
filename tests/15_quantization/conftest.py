"""Two models that have learnt something: one reads digits, one continues a text.

The package is imported inside the fixtures, so that one without this lesson fails test by test.
"""

from types import SimpleNamespace

import numpy as np
import pytest

TEXT = (
    "The first boat leaves at six, when the harbour is still grey and the gulls are still asleep. The second boat "
    "leaves at seven, when the bakers open their shutters and the harbour smells of bread. The third boat leaves at "
    "eight, full of people who meant to take the second. Nobody has ever meant to take the third boat."
)


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.fixture(scope="session")
def reader():
    """A network that reads digits: `model`, the `loader` it learnt from, and `accuracy(model)` on held-out digits."""
    from tinytorch.core.activations import ReLU
    from tinytorch.core.autograd import no_grad
    from tinytorch.core.layers import Flatten, Linear, Sequential
    from tinytorch.core.losses import cross_entropy
    from tinytorch.core.optimizers import Adam
    from tinytorch.core.tensor import manual_seed
    from tinytorch.data.datasets import digits
    from tinytorch.data.loader import DataLoader

    manual_seed(0)
    model = Sequential(Flatten(), Linear(64, 256), ReLU(), Linear(256, 128), ReLU(), Linear(128, 10))
    optimizer = Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(digits("train"), batch_size=128, shuffle=True, seed=0)
    for _ in range(8):
        for images, labels in loader:
            step(optimizer, cross_entropy(model(images), labels))
    images, labels = digits("test")[:]

    def accuracy(model):
        with no_grad():
            return float((model(images).numpy().argmax(axis=1) == labels.numpy()).mean())

    return SimpleNamespace(model=model.eval(), accuracy=accuracy, loader=loader)


@pytest.fixture(scope="session")
def writer():
    """A GPT that has read a text: `model`, the `tokens` (N, T) of the text, and `perplexity(model)` on them."""
    from tinytorch.core.autograd import no_grad
    from tinytorch.core.losses import cross_entropy
    from tinytorch.core.optimizers import Adam
    from tinytorch.core.tensor import Tensor, manual_seed
    from tinytorch.models.transformer import GPT
    from tinytorch.text.tokenization import CharTokenizer

    manual_seed(0)
    tokenizer = CharTokenizer()
    tokenizer.build_vocab([TEXT])
    ids, T = np.array(tokenizer.encode(TEXT)), 24
    model = GPT(tokenizer.vocab_size, embed_dim=96, num_layers=1, num_heads=4, max_seq_len=T)
    optimizer = Adam(model.parameters(), lr=5e-3)
    windows = np.stack([ids[start : start + T + 1] for start in range(0, len(ids) - T, T)])
    for _ in range(25):
        step(optimizer, cross_entropy(model(windows[:, :-1]), windows[:, 1:]))

    def perplexity(model):
        with no_grad():
            return float(np.exp(cross_entropy(model(windows[:, :-1]), windows[:, 1:]).item()))

    tokens = Tensor(windows[:, :-1])
    return SimpleNamespace(model=model.eval(), tokens=tokens, perplexity=perplexity, tokenizer=tokenizer)
