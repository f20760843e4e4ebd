# Generated from course.toml by `tito export`. To change this file, edit the lesson and export again.
"""Layers, activations and losses as classes."""

from tinytorch.core.activations import GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from tinytorch.core.attention import AttentionBackward, MultiHeadAttention
from tinytorch.core.layers import Dropout, Flatten, Identity, Linear, Module, Sequential
from tinytorch.core.losses import (
    BCEWithLogitsLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
)
from tinytorch.nn import functional
from tinytorch.text.embeddings import (
    Embedding,
    EmbeddingBackward,
    EmbeddingLayer,
    PositionalEncoding,
    RotaryBackward,
    RotaryEmbedding,
    SinusoidalEncoding,
)

__all__ = [
    "AttentionBackward",
    "BCEWithLogitsLoss",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "EmbeddingBackward",
    "EmbeddingLayer",
    "Flatten",
    "GELU",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "MultiHeadAttention",
    "NLLLoss",
    "PositionalEncoding",
    "ReLU",
    "RotaryBackward",
    "RotaryEmbedding",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SinusoidalEncoding",
    "Softmax",
    "Softplus",
    "Tanh",
    "functional",
]
