"""A small app that has learnt to count days, and a submission as it should be.

The package is imported inside the fixtures, so that one without this lesson fails test by test.
"""

import pytest

DAYS = ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"]
TEXT = "".join(f"{DAYS[i % 7]}, é{DAYS[(i + 1) % 7]}.\n" for i in range(140))


@pytest.fixture(scope="session")
def text():
    return TEXT


@pytest.fixture(scope="session")
def app():
    """Nobody changes it."""
    from tinytorch.applications.tinygpt import TinyGPT

    sizes = {"vocab_size": 270, "embed_dim": 16, "num_layers": 1, "num_heads": 2, "context": 16}
    return TinyGPT.train(TEXT, tokenizer="bpe", **sizes, steps=40, batch_size=4, lr=0.02, seed=3)


@pytest.fixture
def submission():
    """A valid one, to be spoilt."""
    seconds = {"median": 0.002, "low": 0.001, "high": 0.003, "runs": 9}
    steps = [
        {"name": "baseline", "bytes": 4000, "seconds": dict(seconds), "quality": 1.5},
        {"name": "int8", "bytes": 1000, "cache_bytes": 0, "seconds": seconds, "cpu_seconds": 0.002, "quality": 1.6},
    ]
    task = {"task": "tinygpt", "quality": "loss <nats>", "better": "lower", "per": "token", "steps": steps}
    return {"schema": "tinytorch.submission/1", "machine": {"processor": "any", "cores": 2}, "tasks": [task]}
