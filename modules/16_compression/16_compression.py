# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %%
#| default_exp optimization.compression

# %%
#| export
"""Compression: the same answers from fewer numbers.

    magnitude_prune         small weights become 0; shapes stay, so nothing is saved until zeros are stored as `to_csr` does
    structured_prune        whole units, channels and heads are removed, and the layers become smaller
    low_rank_approximate    one Linear becomes two thin ones
    KnowledgeDistillation   a small model learns from what a large one says

Every function returns a new model and leaves the one it was given as it was.
"""

import copy
import math
from collections import Counter
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np

from tinytorch.core.activations import (
    GELU,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    log_softmax,
    softmax,
)
from tinytorch.core.attention import MultiHeadAttention, _mask, scaled_dot_product_attention
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import (
    Dropout,
    Flatten,
    Identity,
    Linear,
    Sequential,
    _is_layer,
    _is_parameter,
    _positive,
    walk,
)
from tinytorch.core.losses import cross_entropy, kl_div
from tinytorch.core.spatial import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    MaxPool2d,
)
from tinytorch.core.tensor import Tensor, as_array, floating
from tinytorch.core.training import Callback, _evaluating
from tinytorch.models.transformer import MLP
from tinytorch.text.embeddings import Embedding, PositionalEncoding


# %%
#| export
def _share(who, name, value, below_1=False):
    """`value` as a Python float, checked: 0 <= value <= 1, or < 1."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who} needs a number as {name}, got {value!r}")
    if not 0 <= value <= 1 or (below_1 and value == 1):
        raise ValueError(f"{who} needs 0 <= {name} {'<' if below_1 else '<='} 1, a share, got {value}")
    return float(value)


def _weights(who, model):
    """(name, tensor) of every weight that multiplies something: no biases, no norms, no tables that are looked up."""
    if not _is_layer(model):
        raise TypeError(f"{who} needs a model with parameters(), got {type(model).__name__}")
    parts = list(walk(model))
    parameters = [(name, thing) for name, thing in parts if _is_parameter(thing)]
    if not parameters:
        raise ValueError(f"{who} needs a model with parameters, and {type(model).__name__} has none")
    tables = [layer for _, layer in parts if isinstance(layer, (Embedding, PositionalEncoding))]
    looked_up = {id(thing) for layer in tables for thing in vars(layer).values()}
    return [
        (name, p) for name, p in parameters if p.ndim > 1 and id(p) not in looked_up and name.split(".")[-1] != "bias"
    ]


def _weights_to_prune(who, model):
    """`_weights`, of which there must be some, without NaN."""
    weights = _weights(who, model)
    if not weights:
        raise ValueError(f"{who} found no weights in {type(model).__name__}: no parameter of two axes or more")
    for name, p in weights:
        if np.isnan(p.data).any():
            raise ValueError(f"{who} cannot compare weights, for {name} {p.shape} holds NaN")
    return weights


# %% nbgrader={"grade": false, "grade_id": "compression-measure-sparsity", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def sparsity_by_layer(model) -> dict:
    """From the name of every weight to the share of its numbers that are 0."""
    return {name: float(np.mean(p.data == 0)) for name, p in _weights("sparsity_by_layer", model)}


def measure_sparsity(model) -> float:
    """The share of the model's weights that are 0, from 0 to 1: 0.9 means that one in ten is left.

    Counted are the weights that `magnitude_prune` may prune: those of linear layers and convolutions, neither biases,
    norms nor embedding tables.
    """
    weights = _weights("measure_sparsity", model)
    ### BEGIN SOLUTION
    total = sum(p.size for _, p in weights)
    zeros = sum(int((p.data == 0).sum()) for _, p in weights)
    return zeros / total if total else 0.0
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "compression-smallest", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def smallest(magnitudes, count: int):
    """Which `count` of the numbers are the smallest: booleans, exactly `count` of them True.

    magnitudes  (n,)  numbers >= 0
    count       0 <= count <= n; of numbers that are equal the first ones are taken
    """
    ### BEGIN SOLUTION
    if count == 0:
        return np.zeros(magnitudes.shape, bool)
    threshold = np.partition(magnitudes, count - 1)[count - 1]
    chosen = magnitudes < threshold
    equal = np.flatnonzero(magnitudes == threshold)
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "compression-magnitude-prune", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _pruning(arrays, sparsity, scope):
    """For every array a mask of its shape, True where a weight is to become 0."""
    ### BEGIN SOLUTION
    if scope == "layer":
        return [smallest(np.abs(a).ravel(), round(sparsity * a.size)).reshape(a.shape) for a in arrays]
    magnitudes = np.concatenate([np.abs(a).ravel() for a in arrays])
    chosen = smallest(magnitudes, round(sparsity * magnitudes.size))
    ends = np.cumsum([a.size for a in arrays])
    return [part.reshape(a.shape) for part, a in zip(np.split(chosen, ends[:-1]), arrays)]
    ### END SOLUTION


def magnitude_prune(model, sparsity: float, scope: str = "global", in_place: bool = False):
    """The model with its smallest weights set to 0, by magnitude: the share `sparsity` of them, rounded.

    sparsity  0 <= sparsity <= 1, of all weights; those that are 0 already count
    scope     "global": the smallest of the whole model, so that some layers lose more than others; "layer": the same
              share of every layer
    in_place  change this very model and return it

    Weights of linear layers and convolutions only (see `measure_sparsity`). Shapes stay, and so do memory and time; to
    go on training see `PruningMasks`. Raises TypeError or ValueError before anything has changed.
    (Han et al. 2015, section 3)
    """
    sparsity = _share("magnitude_prune", "sparsity", sparsity)
    if scope not in ("global", "layer"):
        raise ValueError(f"magnitude_prune needs scope 'global' or 'layer', got {scope!r}")
    _weights_to_prune("magnitude_prune", model)
    model = model if in_place else copy.deepcopy(model)
    weights = [p for _, p in _weights("magnitude_prune", model)]
    for p, mask in zip(weights, _pruning([p.data for p in weights], sparsity, scope)):
        _set_to_zero(p, mask)
    return model


def _set_to_zero(p, mask):
    np.copyto(p.data, 0, where=mask)
    p._version += 1


# %% nbgrader={"grade": false, "grade_id": "compression-masks", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class PruningMasks(Callback):
    """Which weights of a model are 0 now, so that training on does not grow them back.

        masks = PruningMasks(model)                     a weight that is exactly 0 counts as pruned
        optimizer.step(); masks.apply()                 in a loop of one's own
        Trainer(..., callbacks=[masks])                 applies them after every step

    The optimizer still moves pruned weights; they are put back to 0 after each step, before anybody computes with them.
    """

    def __init__(self, model):
        ### BEGIN SOLUTION
        self._masks = [(p, p.data == 0) for _, p in _weights_to_prune("PruningMasks", model)]
        ### END SOLUTION

    def apply(self):
        """Set the weights that were 0 to 0 again."""
        ### BEGIN SOLUTION
        for p, mask in self._masks:
            _set_to_zero(p, mask)
        ### END SOLUTION

    def step_end(self, trainer, batch, loss):
        self.apply()


# %% nbgrader={"grade": false, "grade_id": "compression-csr", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class CSR(NamedTuple):
    """A matrix as its nonzero numbers, row by row ("compressed sparse row").

    values   (nnz,)       the numbers that are not 0
    columns  (nnz,)       the column of each
    starts   (rows + 1,)  row i is values[starts[i] : starts[i + 1]]
    shape    (rows, columns)
    """

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    shape: tuple

    @property
    def nbytes(self):
        """Bytes of the three arrays together."""
        return self.values.nbytes + self.columns.nbytes + self.starts.nbytes

    def dense(self):
        """The matrix as an ordinary array (rows, columns)."""
        out = np.zeros(self.shape, self.values.dtype)
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.starts.astype(np.int64)))
        out[rows, self.columns] = self.values
        return out


def to_csr(matrix) -> CSR:
    """A matrix in the form that stores no zeros; columns take 2 bytes each where there are at most 65,536 of them."""
    matrix = as_array(matrix)
    if matrix.ndim != 2:
        raise ValueError(f"to_csr needs a matrix, got shape {matrix.shape}; reshape(len(a), -1) makes one")
    small = np.uint16 if matrix.shape[1] <= 1 << 16 else np.uint32
    ### BEGIN SOLUTION
    rows, columns = np.nonzero(matrix)
    counts = np.bincount(rows, minlength=len(matrix))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    return CSR(matrix[rows, columns], columns.astype(small), starts, matrix.shape)
    ### END SOLUTION


# %%
#| export
class _Cut(NamedTuple):
    """An array of a layer, and which unit each of its slices along an axis belongs to."""

    layer: object
    name: str  # the layer's attribute
    axis: int
    owner: np.ndarray  # (length of the axis,) numbers of units


class _Group(NamedTuple):
    """Units that can be removed: what makes them, what hears them, and what else goes with them."""

    name: str  # of the layer that makes them, for errors and `keep`
    layer: object
    count: int
    makes: list  # of cuts; their size says how strongly a unit is driven
    hears: list  # of cuts; their size says how much the next layer listens
    others: tuple = ()

    @property
    def cuts(self):
        return [*self.makes, *self.hears, *self.others]


def _array(cut):
    value = getattr(cut.layer, cut.name)
    return value.data if isinstance(value, Tensor) else value


# %% nbgrader={"grade": false, "grade_id": "compression-unit-scores", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _squares(cuts, count):
    """The sum of the squares of all numbers that belong to each unit: (count,) float64."""
    ### BEGIN SOLUTION
    total = np.zeros(count)
    for cut in cuts:
        rows = np.moveaxis(_array(cut), cut.axis, 0).reshape(len(cut.owner), -1).astype(np.float64)
        total += np.bincount(cut.owner, (rows * rows).sum(axis=1), minlength=count)
    return total
    ### END SOLUTION


def _kept_units(group, prune_ratio):
    """The numbers of the units that stay: those of the largest |what makes it| * |what hears it|."""
    remove = math.floor(prune_ratio * group.count + 1e-9)  # 0.29 * 100 is 28.999999999999996
    scores = np.sqrt(_squares(group.makes, group.count) * _squares(group.hears, group.count))
    ### BEGIN SOLUTION
    ranked = np.argsort(-scores, kind="stable")
    return ranked[: group.count - remove]
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "compression-cut", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _remove_units(cuts, kept):
    """Shorten every array to the slices whose owner is among `kept`."""
    for cut in cuts:
        ### BEGIN SOLUTION
        places = np.flatnonzero(np.isin(cut.owner, kept))
        shorter = _array(cut).take(places, axis=cut.axis)
        ### END SOLUTION
        value = getattr(cut.layer, cut.name)
        if isinstance(value, Tensor):
            value.data = shorter
        else:
            setattr(cut.layer, cut.name, shorter)


def _settle(layer):
    """Let the settings of a layer say what its arrays are."""
    if isinstance(layer, Linear):
        layer.in_features, layer.out_features = layer.weight.shape
    elif isinstance(layer, (Conv1d, Conv2d)):
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]
    elif isinstance(layer, (BatchNorm1d, BatchNorm2d)):
        layer.num_features = layer.weight.size


# %% nbgrader={"grade": false, "grade_id": "compression-owners", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _owners(units, features, channels):
    """Which unit each of `features` numbers comes from, once everything but the batch has been flattened.

    channels  True: of units (N, units, H, W), whose pixels stand together; False: of (N, T, units), which take turns
    """
    ### BEGIN SOLUTION
    each = features // units
    return np.repeat(np.arange(units), each) if channels else np.tile(np.arange(units), each)
    ### END SOLUTION


# %%
#| export
_ONE_BY_ONE = (ReLU, LeakyReLU, Sigmoid, Tanh, GELU, SiLU, Softplus, Dropout, Identity)
_POOLING = (MaxPool2d, AvgPool2d, AdaptiveAvgPool2d)
_SHRINKING = (Linear, Conv1d, Conv2d)  # layers whose units can be removed
_WITH_UNITS = (*_SHRINKING, ConvTranspose1d, ConvTranspose2d)


def _runs_as(layer, *classes):
    """Whether the layer computes what one of the classes computes, being one or a subclass with the same `forward`."""
    return any(isinstance(layer, cls) and type(layer).forward is cls.forward for cls in classes)


def _can_shrink(layer):
    return _runs_as(layer, *_SHRINKING) and (isinstance(layer, Linear) or layer.groups == 1)


def _title(name, layer):
    return f"{name or 'the model'} ({type(layer).__name__})"


class _Open:
    """The units of a layer on their way through a chain to the layer that hears them."""

    def __init__(self, name, layer):
        self.name, self.layer = name, layer
        self.channels = not isinstance(layer, Linear)
        self.flat = False
        self.obstacle = None if _can_shrink(layer) else (name, layer)
        self.count = layer.weight.shape[0 if self.channels else 1]
        axis, owner = 0 if self.channels else 1, np.arange(self.count)
        self.makes = [_Cut(layer, "weight", axis, owner)]
        if layer.bias is not None:
            self.makes.append(_Cut(layer, "bias", 0, owner))
        self.others = []

    def owners(self, features):
        """`_owners` of the features that arrive here, or None if they do not fit."""
        if features % self.count or (features != self.count and not self.flat):
            return None
        return _owners(self.count, features, self.channels)

    def passes(self, name, layer):
        """Take note of a layer on the way that is no Linear and no convolution."""
        if _runs_as(layer, Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            self.flat = True
        elif _runs_as(layer, BatchNorm1d, BatchNorm2d) and self.owners(layer.num_features) is not None:
            owner = self.owners(layer.num_features)
            self.others += [*self.makes, *(_Cut(layer, s, 0, owner) for s in ("running_mean", "running_var"))]
            self.makes = [_Cut(layer, "weight", 0, owner), _Cut(layer, "bias", 0, owner)]
        elif not _runs_as(layer, *_ONE_BY_ONE) and not (_runs_as(layer, *_POOLING) and self.channels and not self.flat):
            self.obstacle = self.obstacle or (name, layer)

    def heard_by(self, name, layer):
        """The group, complete with the layer that hears it; ValueError if there is no telling which of its weights."""
        linear = isinstance(layer, Linear)
        width = layer.weight.shape[0 if linear else 1]
        owner = self.owners(width)
        fits = linear == (self.flat or not self.channels) and owner is not None and _can_shrink(layer)
        obstacle = self.obstacle or (None if fits else (name, layer))
        if obstacle is not None:
            raise ValueError(
                f"structured_prune cannot take units out of {_title(self.name, self.layer)}, which "
                f"{_title(name, layer)} hears: it does not know how to adjust {_title(*obstacle)}. "
                f"keep=[{self.name!r}] leaves its units as they are"
            )
        hears = [_Cut(layer, "weight", 0 if linear else 1, owner)]
        return _Group(self.name, self.layer, self.count, self.makes, hears, self.others)


def _chain(name, sequential, uses):
    """(name, layer) of everything in a Sequential, and in those inside it that are used once, in order of running."""
    for i, layer in enumerate(sequential.layers):
        inner = f"{name}.{i}" if name else str(i)
        if _runs_as(layer, Sequential) and uses[id(layer)] == 1:
            yield from _chain(inner, layer, uses)
        else:
            yield inner, layer


def _chain_groups(chain, keep):
    """A group for every Linear and convolution of a chain but the last, whose outputs others rely on."""
    groups, units = [], None
    for name, layer in chain:
        if isinstance(layer, _WITH_UNITS):
            if units is not None and units.name not in keep:
                groups.append(units.heard_by(name, layer))
            units = _Open(name, layer)
        elif units is not None:
            units.passes(name, layer)
    return groups


# %% nbgrader={"grade": false, "grade_id": "compression-attention", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class PrunedAttention(MultiHeadAttention):
    """Attention that has lost heads: `num_heads` of them, each `head_dim` wide, together narrower than embed_dim.

    in_proj is a Linear(E, 3 num_heads head_dim), out_proj a Linear(num_heads head_dim, E). Takes over the layers of a
    MultiHeadAttention.
    """

    def __init__(self, attention: MultiHeadAttention):
        vars(self).update(vars(attention))
        self.head_dim = _head_dim(attention)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (..., T, E), each (..., heads, T, D)."""
        qkv = self.in_proj(x).reshape(*x.shape[:-1], 3, self.num_heads, self.head_dim)
        return tuple(qkv[..., i, :, :].swapaxes(-3, -2) for i in range(3))

    def forward(self, x: Tensor, mask=None, causal: bool = False, cache=None) -> Tensor:
        """(..., T, E) -> (..., T, E); all arguments as for `MultiHeadAttention`."""
        x = floating(x)
        if x.ndim < 2 or x.shape[-1] != self.embed_dim:
            raise ValueError(f"PrunedAttention needs x (..., T, {self.embed_dim}), got shape {x.shape}")
        if mask is not None:
            mask = _mask(mask)
            if mask.ndim == x.ndim > 2:
                mask = mask.unsqueeze(-3)
        q, k, v = self.heads(x)
        if self.rotary is not None:
            q, k = self.rotary(q, k, 0 if cache is None else len(cache))
        if cache is not None:
            k, v = cache.append(k, v)
        out, _ = scaled_dot_product_attention(q, k, v, mask, causal, self.dropout if self.training else 0.0)
        return self.out_proj(out.swapaxes(-3, -2).reshape(*x.shape[:-1], self.num_heads * self.head_dim))

    def extra_repr(self):
        return f"{super().extra_repr()}, head_dim={self.head_dim}"


def _head_dim(attention):
    if isinstance(attention, PrunedAttention):
        return attention.head_dim
    return attention.embed_dim // attention.num_heads


def _attention_group(name, attention):
    """The heads as units: three blocks of columns each in `in_proj`, and a block of rows in `out_proj`."""
    H, D = attention.num_heads, _head_dim(attention)
    ### BEGIN SOLUTION
    rows = np.repeat(np.arange(H), D)
    columns = np.tile(rows, 3)
    ### END SOLUTION
    makes = [_Cut(attention.in_proj, "weight", 1, columns)]
    if attention.in_proj.bias is not None:
        makes.append(_Cut(attention.in_proj, "bias", 0, columns))
    return _Group(name, attention, H, makes, [_Cut(attention.out_proj, "weight", 0, rows)])


# %%
#| export
def _inside(thing):
    """(key, part) for what a layer, list, tuple or dict refers to directly."""
    if isinstance(thing, dict):
        return list(thing.items())
    if isinstance(thing, (list, tuple)):
        return list(enumerate(thing))
    return list(getattr(thing, "__dict__", {}).items()) if _is_layer(thing) else []


def _uses(model):
    """From the id of a layer or parameter to the number of places in the model that refer to it."""
    return Counter(id(part) for _, thing in walk(model) for _, part in _inside(thing))


def _exchange(model, old, new):
    """The model with the layer `new` in every place where `old` was."""
    for _, thing in list(walk(model)):
        for key, part in _inside(thing):
            if part is not old:
                continue
            if isinstance(thing, tuple):
                raise TypeError(f"a layer in a tuple cannot be exchanged, {type(old).__name__}; keep layers in a list")
            if isinstance(thing, (list, dict)):
                thing[key] = new
            else:
                setattr(thing, key, new)
    return new if model is old else model


def _is_attention(layer):
    own = type(layer).heads if isinstance(layer, MultiHeadAttention) else None
    return _runs_as(layer, MultiHeadAttention, PrunedAttention) and own in (
        MultiHeadAttention.heads,
        PrunedAttention.heads,
    )


def _need_linear(name, owner, layers):
    for key, layer in layers.items():
        if not _runs_as(layer, Linear):
            raise ValueError(
                f"structured_prune cannot take units out of {_title(name, owner)}: its {key} is a "
                f"{type(layer).__name__}. Prune structure first, and make layers low-rank afterwards"
            )


def _groups(model, keep, uses):
    """All groups of a model. ValueError names a layer whose surroundings are not understood."""
    groups, known = [], set()
    for name, layer in walk(model):
        if id(layer) in known or not _is_layer(layer):
            continue
        if _runs_as(layer, Sequential):
            chain = list(_chain(name, layer, uses))
            known |= {id(inner) for _, inner in chain if isinstance(inner, _WITH_UNITS)}
            known |= {id(inner) for _, inner in walk(layer) if _runs_as(inner, Sequential) and uses[id(inner)] == 1}
            groups += _chain_groups(chain, keep)
        elif _runs_as(layer, MLP):
            known |= {id(inner) for inner in (layer.fc1, layer.fc2) if isinstance(inner, Linear)}
            if name not in keep:
                _need_linear(name, layer, {"fc1": layer.fc1, "fc2": layer.fc2})
                units = _Open(name, layer.fc1)
                groups.append(units.heard_by(name, layer.fc2)._replace(layer=layer))
        elif _is_attention(layer):
            known |= {id(inner) for inner in (layer.in_proj, layer.out_proj) if isinstance(inner, Linear)}
            if name not in keep:
                _need_linear(name, layer, {"in_proj": layer.in_proj, "out_proj": layer.out_proj})
                groups.append(_attention_group(name, layer))
        elif isinstance(layer, (*_WITH_UNITS, MultiHeadAttention, MLP)) and name and name not in keep:
            raise ValueError(
                f"structured_prune does not know what hears the units of {_title(name, layer)}: it is not in a "
                f"Sequential, an MLP or a MultiHeadAttention. keep=[{name!r}] leaves its units as they are"
            )
    return groups


def _check_groups(model, groups, keep, uses):
    """Raise unless there is something to prune, every name in `keep` is a layer, and no layer is used twice."""
    names = {name for name, layer in walk(model) if _is_layer(layer)}
    unknown = sorted(set(keep) - names)
    if unknown:
        raise ValueError(f"structured_prune: keep names no layer of this model: {unknown[0]!r}")
    if not groups:
        raise ValueError(
            f"structured_prune found no units to remove in {type(model).__name__}: it needs a Sequential of two layers "
            "or more, an MLP or a MultiHeadAttention (inputs and outputs of the model are never removed)"
        )
    for group in groups:
        for cut in group.cuts:
            if uses[id(cut.layer)] > 1 or uses[id(getattr(cut.layer, cut.name))] > 1:
                raise ValueError(
                    f"structured_prune cannot take units out of {_title(group.name, group.layer)}: the {cut.name} of "
                    f"{type(cut.layer).__name__} is used in two places. keep=[{group.name!r}] leaves its units"
                )


def structured_prune(model, prune_ratio: float, keep=()):
    """A model with fewer units: columns of a Linear, channels of a convolution, heads of an attention are really gone.

    prune_ratio  0 <= prune_ratio < 1: the share of the units of every layer to remove, rounded down. Those go whose
                 weights are small, what makes them times what hears them
    keep         names of layers whose units all stay, such as ["0", "blocks.1.attention"]

    The new model computes what the old one would if the next layer did not hear the removed units. Understood are:
    Sequentials of Linear, Conv1d, Conv2d, batch norm, pooling, Flatten, Dropout and activations that act on each number
    by itself; and, anywhere in a model such as a GPT, the insides of MLP and MultiHeadAttention. Of anything else a
    ValueError names the layer. How many units stay depends on sizes only: to load a checkpoint of a pruned model, load
    it into a new model pruned by the same share. (Li et al. 2017; Michel et al. 2019 for heads)
    """
    prune_ratio = _share("structured_prune", "prune_ratio", prune_ratio, below_1=True)
    if isinstance(keep, str):
        raise TypeError(f"structured_prune needs keep as a list of names, got {keep!r}; write [{keep!r}]")
    _weights_to_prune("structured_prune", model)
    model = copy.deepcopy(model)
    uses = _uses(model)
    groups = _groups(model, keep, uses)
    _check_groups(model, groups, keep, uses)
    chosen = [_kept_units(group, prune_ratio) for group in groups]
    for group, kept in zip(groups, chosen):
        if len(kept) < group.count:
            _remove_units(group.cuts, kept)
            for cut in group.cuts:
                _settle(cut.layer)
            if isinstance(group.layer, MultiHeadAttention):
                smaller = PrunedAttention(group.layer)
                smaller.num_heads = len(kept)
                model = _exchange(model, group.layer, smaller)
    return model


# %% nbgrader={"grade": false, "grade_id": "compression-low-rank", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def low_rank_approximate(layer: Linear, rank: int) -> Sequential:
    """A Linear(in, out) as two, Linear(in, rank) and Linear(rank, out): the nearest there is of that rank.

    rank  1 <= rank <= min(in, out); smaller than the layer where rank < in * out / (in + out)

    With the singular values s of the weight, largest first, the error of the weight is s[rank] (how far the longest
    output of a unit input moves), and sqrt(sum(s[rank:]^2)) over all numbers. (Eckart & Young 1936)
    """
    if not _runs_as(layer, Linear):
        raise TypeError(f"low_rank_approximate needs a Linear, got {type(layer).__name__}")
    rank = _positive("low_rank_approximate", "rank", rank)
    fan_in, fan_out = layer.weight.shape
    if rank > min(fan_in, fan_out):
        raise ValueError(f"Linear({fan_in}, {fan_out}) has no rank above {min(fan_in, fan_out)}, got {rank}")
    if not np.isfinite(layer.weight.data).all():
        raise ValueError(
            f"low_rank_approximate needs finite weights, Linear({fan_in}, {fan_out}) holds NaN or infinity"
        )
    dtype = layer.weight.dtype
    down, up = Linear(fan_in, rank, bias=False, rng=0), Linear(rank, fan_out, bias=layer.bias is not None, rng=0)
    ### BEGIN SOLUTION
    u, s, vt = np.linalg.svd(layer.weight.data.astype(np.float64), full_matrices=False)
    root = np.sqrt(s[:rank])  # half of every stretch to each, so that both learn alike
    down.weight.data = (u[:, :rank] * root).astype(dtype)
    up.weight.data = (root[:, None] * vt[:rank]).astype(dtype)
    ### END SOLUTION
    if layer.bias is not None:
        up.bias.data = layer.bias.data.copy()
        up.bias.requires_grad = layer.bias.requires_grad
    for thin in (down, up):
        thin.weight.requires_grad = layer.weight.requires_grad
    return Sequential(down, up).train(layer.training)


# %% nbgrader={"grade": false, "grade_id": "compression-distillation-loss", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _check_distillation(temperature, alpha):
    if not isinstance(temperature, Real) or isinstance(temperature, bool):
        raise TypeError(f"distillation needs a number as temperature, got {temperature!r}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"distillation needs a temperature above 0, got {temperature}")
    _share("distillation", "alpha", alpha)


def distillation_loss(student_logits, teacher_logits, targets=None, temperature: float = 3.0, alpha: float = 0.7):
    """How far a student is from its teacher and from the truth, in nats; gradients flow to the student only.

        alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) cross_entropy(student, targets)

    student_logits  (..., C)
    teacher_logits  (..., C), a tensor or array
    targets         (...) class numbers; may be None with alpha=1, which learns from the teacher alone
    temperature     T > 0; a high one shows how the teacher ranks the wrong answers. Softening by T shrinks the gradient
                    by about T^2, which the factor makes up for
    alpha           0 <= alpha <= 1, how much the teacher counts

    The mean over all rows. (Hinton et al. 2015, section 2)
    """
    _check_distillation(temperature, alpha)
    student, teacher = floating(student_logits), floating(teacher_logits).detach()
    if student.shape != teacher.shape or student.ndim == 0:
        raise ValueError(
            f"distillation needs logits (..., C) of one shape from both, got student {student.shape} and "
            f"teacher {teacher.shape}"
        )
    if targets is None and alpha != 1:
        raise ValueError(f"distillation needs targets for its share {1 - alpha:g} of cross entropy; or set alpha=1")
    C = student.shape[-1]
    ### BEGIN SOLUTION
    believed = log_softmax(student / temperature).reshape(-1, C)
    told = softmax(teacher / temperature).reshape(-1, C)
    soft = kl_div(believed, told, "batchmean") * temperature**2
    if alpha == 1:
        return soft
    return alpha * soft + (1 - alpha) * cross_entropy(student, targets)
    ### END SOLUTION


# %%
#| export
class KnowledgeDistillation:
    """The loss of a student that learns from a teacher: `distillation_loss` of what both say about the same input.

        distillation = KnowledgeDistillation(teacher, student)
        optimizer = Adam(distillation.parameters())      # the student's; the teacher never changes
        loss = distillation(images, labels)

    temperature, alpha   as for `distillation_loss`
    """

    def __init__(self, teacher, student, temperature: float = 3.0, alpha: float = 0.7):
        for role, model in (("teacher", teacher), ("student", student)):
            if not callable(model) or isinstance(model, type):
                raise TypeError(f"KnowledgeDistillation needs a model as {role}, got {model!r}")
        if teacher is student:
            raise ValueError(
                "KnowledgeDistillation: teacher and student are the same model, which has nothing to learn"
            )
        if not _is_layer(student) or not student.parameters():
            raise ValueError(
                f"KnowledgeDistillation: the student, {type(student).__name__}, has no parameters to learn"
            )
        _check_distillation(temperature, alpha)
        self.teacher = teacher
        self.student = student
        self.temperature = temperature
        self.alpha = alpha

    def parameters(self):
        """The student's parameters."""
        return self.student.parameters()

    def teacher_logits(self, *inputs) -> Tensor:
        """What the teacher says: in eval mode, nothing recorded; for data that come again it may be kept."""
        with no_grad(), _evaluating(self.teacher):
            return self.teacher(*inputs)

    def loss(self, student_logits, teacher_logits, targets=None) -> Tensor:
        """`distillation_loss` with the settings of this object."""
        return distillation_loss(student_logits, teacher_logits, targets, self.temperature, self.alpha)

    def forward(self, x, targets=None) -> Tensor:
        """The loss on a batch, through the student."""
        return self.loss(self.student(x), self.teacher_logits(x), targets)

    def __call__(self, x, targets=None) -> Tensor:
        return self.forward(x, targets)

    def __repr__(self):
        teacher, student = type(self.teacher).__name__, type(self.student).__name__
        return f"KnowledgeDistillation({teacher} -> {student}, temperature={self.temperature}, alpha={self.alpha})"


# %%
#| export
def _low_rank_everywhere(model, rank):
    """The model with `low_rank_approximate` of every Linear that it makes smaller; there must be one."""
    layers = [layer for _, layer in walk(model) if _runs_as(layer, Linear)]
    chosen = [layer for layer in layers if rank * sum(layer.weight.shape) < layer.weight.size]
    if not chosen:
        raise ValueError(f"compress_model: rank {rank} makes no Linear of this {type(model).__name__} smaller")
    uses = _uses(model)
    for layer in chosen:
        if uses[id(layer.weight)] > 1:
            raise ValueError(f"compress_model cannot replace {layer}: its weight is used in two places")
    for layer in chosen:
        model = _exchange(model, layer, low_rank_approximate(layer, rank))
    return model


def compress_model(model, config: Mapping):
    """A smaller copy of the model: structured_prune, then low_rank_approximate, then magnitude_prune, as `config` says.

    config  from the name of a function to its number, such as
            {"structured_prune": 0.5, "low_rank_approximate": 16, "magnitude_prune": 0.8}; the order does not matter.
            The rank is for every Linear that two thin ones of that rank make smaller

    Raises TypeError or ValueError before anything has changed; the model itself never does.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"compress_model needs a dict such as {{'magnitude_prune': 0.8}}, got {config!r}")
    known = ("structured_prune", "low_rank_approximate", "magnitude_prune")
    unknown = [name for name in config if name not in known]
    if unknown or not config:
        what = f"it does not know {unknown[0]!r}" if unknown else "the config is empty"
        raise ValueError(f"compress_model: {what}; it takes {', '.join(known)}")
    for name in ("structured_prune", "magnitude_prune"):
        if name in config:
            _share("compress_model", name, config[name], below_1=name == "structured_prune")
    if "low_rank_approximate" in config:
        _positive("compress_model", "low_rank_approximate", config["low_rank_approximate"])
    _weights_to_prune("compress_model", model)
    out = copy.deepcopy(model)
    if "structured_prune" in config:
        out = structured_prune(out, config["structured_prune"])
    if "low_rank_approximate" in config:
        out = _low_rank_everywhere(out, config["low_rank_approximate"])
    if "magnitude_prune" in config:
        out = magnitude_prune(out, config["magnitude_prune"], in_place=True)
    return out
