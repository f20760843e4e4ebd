"""The same seed and the same number of threads: the same bits. Another number of threads: the same but for rounding."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from support.checks import assert_close

PROGRAM = """
import sys
import numpy as np
import tinytorch
from tinytorch import nn, optim
from tinytorch.nn import functional as F

tinytorch.manual_seed(0)
images = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Dropout(0.2), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10),
)
words = nn.GPT(50, 64, 1, 2, max_seq_len=32, dropout=0.1)
found = []
for model, x in ((images, tinytorch.randn(64, 3, 8, 8)), (words, np.arange(16 * 32).reshape(16, 32) * 7 % 50)):
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    targets = np.arange(64) % 10 if model is images else (x + 1) % 50
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), targets)
        loss.backward()
        optimizer.step()
    found += [np.ravel(p.data) for p in model.parameters()]
sys.stdout.buffer.write(np.concatenate(found).tobytes())
"""


def trained(threads):
    """Parameters after two steps of two models, in a process whose libraries may use that many threads."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TINYTORCH_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32)


@pytest.fixture(scope="module")
def runs():
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(["one", "one again", "two", "two again"], pool.map(trained, [1, 1, 2, 2])))


@pytest.mark.parametrize("threads", ["one", "two"])
def test_the_same_seed_repeats_bit_for_bit(runs, threads):
    assert runs[threads].tobytes() == runs[f"{threads} again"].tobytes()


def test_the_number_of_threads_changes_nothing_but_rounding(runs):
    assert np.isfinite(runs["one"]).all()
    assert_close(runs["two"], runs["one"], rtol=1e-4, atol=1e-5)


def test_one_variable_bounds_the_threads_of_numpys_products():
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    asks = "import tinytorch, threadpoolctl; print(*(i['num_threads'] for i in threadpoolctl.threadpool_info()))"
    command = [sys.executable, "-c", asks]
    done = subprocess.run(command, env=environment | {"TINYTORCH_NUM_THREADS": "1"}, capture_output=True, check=True)
    assert set(done.stdout.split()) == {b"1"}
