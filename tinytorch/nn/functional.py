# Generated from course.toml by `tito export`. To change this file, edit the lesson and export again.
"""Activations, layers and losses as functions."""

from tinytorch.core.activations import gelu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from tinytorch.core.attention import causal_mask, scaled_dot_product_attention
from tinytorch.core.layers import dropout, kaiming_normal, kaiming_uniform, linear, walk, xavier_normal, xavier_uniform
from tinytorch.core.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
)
from tinytorch.text.embeddings import create_sinusoidal_embeddings, embedding, rotary

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "causal_mask",
    "create_sinusoidal_embeddings",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "huber_loss",
    "kaiming_normal",
    "kaiming_uniform",
    "kl_div",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "relu",
    "rotary",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "walk",
    "xavier_normal",
    "xavier_uniform",
]
