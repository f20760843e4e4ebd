"""The loss of a text, and a training step, as PyTorch counts them."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.applications.tinygpt import fit, text_loss
from tinytorch.models.transformer import GPT

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def test_the_loss_of_a_text_is_pytorchs_cross_entropy_of_all_its_places():
    model = GPT(23, 16, 2, 4, 8, rng=0).eval()
    ids = np.random.default_rng(0).integers(0, 23, 100)
    logits = [model(ids[None, start : min(start + 8, 99)]).data[0] for start in range(0, 99, 8)]
    want = torch.nn.functional.cross_entropy(torch.tensor(np.concatenate(logits)), torch.tensor(ids[1:]))
    assert_close(text_loss(model, ids), want.item())


def test_clipped_steps_of_adamw_are_pytorchs():
    class Table:
        """A model whose next token depends on this one alone."""

        max_seq_len = 4

        def __init__(self):
            from tinytorch.core.tensor import randn

            self.weight = randn(6, 6, rng=0, requires_grad=True)

        def __call__(self, x):
            return self.weight[x]

        def parameters(self):
            return [self.weight]

        def named_parameters(self):
            return [("weight", self.weight)]

        def train(self):
            pass

        eval = train

    ids, ours = np.random.default_rng(0).integers(0, 6, 5), Table()  # one window only
    theirs = torch.tensor(ours.weight.data.copy(), requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], 0.1, betas=(0.9, 0.99), weight_decay=0.1)
    steps = 10
    for step in range(1, steps + 1):
        done = max(0.0, step - 1) / steps  # a warm-up of one step, then a cosine over the others
        optimizer.param_groups[0]["lr"] = 0.1 / 30 + (0.1 - 0.1 / 30) * (1 + np.cos(np.pi * done)) / 2
        optimizer.zero_grad()
        rows = theirs[torch.tensor(np.tile(ids[:-1], 3))]
        torch.nn.functional.cross_entropy(rows, torch.tensor(np.tile(ids[1:], 3))).backward()
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        optimizer.step()
    fit(ours, ids, steps, 3, 0.1, np.random.default_rng(0))
    assert_close(ours.weight, theirs.detach().numpy(), rtol=1e-4, atol=1e-5)
