"""TinyTorch beside PyTorch, interleaved in one run: `python -m benchmarks`."""
