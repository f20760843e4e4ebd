"""Convolution as it is defined, tap by tap, and what an operation announces."""

import numpy as np


def as_pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def convolved(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """conv2d of arrays: a sum over groups and taps."""
    (sh, sw), (ph, pw), (dh, dw) = as_pair(stride), as_pair(padding), as_pair(dilation)
    F, inner, KH, KW = weight.shape
    padded = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    OH = (padded.shape[2] - dh * (KH - 1) - 1) // sh + 1
    OW = (padded.shape[3] - dw * (KW - 1) - 1) // sw + 1
    out = np.zeros((len(x), F, OH, OW), x.dtype)
    share = F // groups
    for f in range(F):
        first = f // share * inner
        for i in range(KH):
            for j in range(KW):
                seen = padded[:, first : first + inner, i * dh :: sh, j * dw :: sw][:, :, :OH, :OW]
                out[:, f] += np.einsum("nchw,c->nhw", seen, weight[f, :, i, j])
    return out if bias is None else out + bias[:, None, None]
