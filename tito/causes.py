"""What differs, and the likely reason, from the two sides of a comparison that failed or from an exception.

`difference` says where two values part; `cause` recognises the patterns that mistakes in array code leave behind: a
constant factor, a flipped sign, a shape from before the sum. Each reason is a sentence, and only said where the numbers
bear it out at every place. Imports the standard library at import; NumPy where it is loaded already.
"""

import linecache
import re
import sys
from fractions import Fraction
from pathlib import Path

# Names of tests that hold still what must not change: any change is the mistake, and its numbers tell nothing.
STILL = r"unchanged|untouched|in_place|leaves|do(es)?_not_change|not_changed|keeps_its_input|left_alone|moves_nothing"
INPUT = r"(leaves|change|keeps)_(its|their)_inputs?|(is|are)_not_changed"  # of those, the ones about an input
MANY = 100_000  # of more numbers, only the simple patterns are tried
FEW = 4  # with fewer numbers than this, that all of them fit a pattern may be chance


def explain(error, compared=None, file=None, test=""):
    """The sentences (difference, cause) for one failure; each may be None.

    compared  the two sides of the assertion that failed, (operator, got, want), as pytest saw them
    file      of the test; its failing line tells a gradient from another result
    test      its name
    """
    line = statement(error, file)
    sides = operands(error, compared)
    told = reason = None
    if sides is not None:
        told = difference(*sides)
        if compared is not None and compared[0] == "is" and _equal(*sides):
            reason = "equal, but another object: this very one was to be handed on, and a copy was made"
        elif not re.search(STILL, test):
            reason = cause(*sides, context=f"{test} {line}")
    kind = "AssertionError" if isinstance(error, AssertionError) else type(error).__name__
    if kind == "IndexError" and _innermost(error) == str(file):
        reason = "the check read more values than your code returned"
    return told, reason or of_message(kind, str(error), f"{test} {line}")


def _innermost(error):
    """The file in which an exception came up."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        trace, found = trace.tb_next, trace.tb_frame.f_code.co_filename
    return found


def statement(error, file):
    """The line of the test file on which `error` came up."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        if file is not None and trace.tb_frame.f_code.co_filename == str(file):
            found = linecache.getline(str(file), trace.tb_lineno).strip()
        trace = trace.tb_next
    return found


def operands(error, compared):
    """The values (got, want) whose difference is the failure; None if it was something else."""
    if hasattr(error, "got") and hasattr(error, "want"):
        return error.got, error.want
    trace = error.__traceback__
    while trace is not None:
        names = trace.tb_frame.f_locals
        if Path(trace.tb_frame.f_code.co_filename).parts[-4:-2] == ("numpy", "testing") and "desired" in names:
            return names["actual"], names["desired"]
        trace = trace.tb_next
    if isinstance(error, AssertionError) and _top(error, compared):
        got, want = compared[1], getattr(compared[2], "expected", compared[2])  # of pytest.approx
        if isinstance(want, type) and _is_dtype(got):
            want = type(got)(want)
        return got, want
    return None


def _top(error, compared):
    """Whether the assertion was of this comparison itself, `assert a == b` and not `assert not (a == b).any()`."""
    if compared is None or compared[0] not in ("==", "is"):
        return False
    said = next((line for line in str(error).splitlines() if line.startswith("assert ")), None)
    return said is None or f" {compared[0]} " in said


def _array(value):
    """`value` as an array of numbers, or None: tensors, arrays, numbers and even nests of lists are."""
    np = sys.modules.get("numpy")
    if np is None or value is None or isinstance(value, str | bytes | dict | set):
        return None
    data = getattr(value, "data", value) if not isinstance(value, np.ndarray | np.generic) else value
    if isinstance(data, memoryview):
        return None
    if not isinstance(data, np.ndarray | np.generic | int | float | list | tuple):
        return None
    if isinstance(data, list | tuple) and any(isinstance(part, str | bytes | dict) for part in data):
        return None
    try:
        array = np.asarray(data)
    except (ValueError, TypeError, OverflowError):  # rows of several lengths, or things that are no numbers
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_shape(value):
    return isinstance(value, tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def difference(got, want):
    """Where `got` and `want` part: shape, dtype, or the first place with both values."""
    if type(got) is type(want) and isinstance(got, str | bytes):
        n = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        return f"first differs at character {n}: expected {want[n : n + 20]!r}, got {got[n : n + 20]!r}"
    if isinstance(got, set | frozenset) and isinstance(want, set | frozenset):
        parts = [("missing", want - got), ("too many", got - want)]
        return "; ".join(f"{word}: {_short(sorted(part, key=repr))}" for word, part in parts if part) or None
    if isinstance(got, dict) and isinstance(want, dict):
        for key in want:
            if key not in got:
                return f"there is no {key!r}; expected {_short(want[key])}"
            if not _equal(got[key], want[key]):
                return f"first differs at {key!r}: expected {_short(want[key])}, got {_short(got[key])}"
        return f"there is {_short(next(iter(set(got) - set(want))))} too many" if set(got) - set(want) else None
    if any(x is None or isinstance(x, bool) for x in (got, want)) or (_is_dtype(got) and _is_dtype(want)):
        return f"expected {_short(want)}, got {_short(got)}"
    a, b = _array(got), _array(want)
    if a is None or b is None:
        if isinstance(got, list | tuple) and isinstance(want, list | tuple):
            if len(got) != len(want):
                return f"expected {len(want)} elements, got {len(got)}"
            for i, (left, right) in enumerate(zip(got, want)):
                if not _equal(left, right):
                    return f"first differs at index {i}: expected {_short(right)}, got {_short(left)}"
        return None
    if _is_shape(got) and _is_shape(want):
        return f"expected {want}, got {got}"
    if a.shape != b.shape:
        return f"expected shape {b.shape}, got shape {a.shape}"
    wrong = ~_same(a, b)
    if not wrong.any():
        return f"expected dtype {b.dtype}, got dtype {a.dtype}" if a.dtype != b.dtype else None
    place = tuple(int(i) for i in zip(*wrong.nonzero()).__next__()) if wrong.ndim else ()
    there = f"at index {place}: " if place else ""
    return (
        f"{there}expected {b[place].item()!r}, got {a[place].item()!r} "
        f"({int(wrong.sum())} of {wrong.size} values differ, shape {b.shape})"
        if place
        else f"expected {b[place].item()!r}, got {a[place].item()!r}"
    )


def _equal(a, b):
    left, right = _array(a), _array(b)
    if left is not None and right is not None:
        return left.shape == right.shape and bool(_same(left, right).all())
    return a is b or bool(a == b)


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _same(a, b, rtol=1e-5):
    """Where two arrays of one shape agree, NaN with NaN too."""
    import numpy as np

    with np.errstate(all="ignore"):
        if a.dtype.kind in "bui" and b.dtype.kind in "bui":
            return a == b
        return np.isclose(a.astype(np.float64), b.astype(np.float64), rtol=rtol, atol=1e-7, equal_nan=True)


def cause(got, want, context=""):
    """The likely reason that `got` is not `want`, or None.

    context  words that tell what the numbers are: the test's name and line
    """
    noun = "your gradient" if re.search(r"grad|backward", context, re.I) else "the result"
    if got is None and want is not None:
        return f"{noun} is None: " + (
            "it never arrived; was the operation recorded, and is the rule's result returned?"
            if noun == "your gradient"
            else "is a return missing?"
        )
    if _is_dtype(got) and _is_dtype(want):
        return _of_dtypes(got, want)
    if isinstance(got, bool) or isinstance(want, bool):
        return None
    a, b = _array(got), _array(want)
    if a is None or b is None:
        return _of_sequences(got, want)
    if _is_shape(got) and _is_shape(want) and re.search(r"shape", context):
        return _of_shapes(got, want, noun)
    if a.shape != b.shape:
        return _of_arrays_of_two_shapes(a, b, noun)
    if a.dtype != b.dtype and _same(a, b).all():
        return _of_dtypes(a.dtype, b.dtype)
    return _of_values(a, b, noun, context)


def _is_dtype(value):
    return type(value).__module__.startswith("numpy") and hasattr(value, "itemsize") and hasattr(value, "kind")


def _of_dtypes(got, want):
    if (got.kind, want.kind) == ("f", "f"):
        if got.itemsize > want.itemsize:
            return (
                f"{got} came out where {want} went in: a NumPy scalar or an array made on the way was {got}; "
                f"make it with the input's dtype, or bring the result back with .astype"
            )
        return f"{want} was asked for, and the numbers were rounded to {got} on the way"
    if want.kind == "f":
        return f"the numbers are {got}, and {want} was expected: whole numbers cannot hold fractions"
    if want.kind in "iu" and got.kind == "f":
        return f"whole numbers became {got}; indices and counts stay {want}"
    if want.kind == "b":
        return "truth values were expected (True and False), not numbers"
    return None


def _of_sequences(got, want):
    """Lists of words, tokens, records."""
    if not (isinstance(got, list | tuple) and isinstance(want, list | tuple)) or type(got) is not type(want):
        return None
    if len(got) == len(want) > 1:
        if list(got) == list(want)[::-1]:
            return "everything is there, in the opposite order"
        if sorted(map(repr, got)) == sorted(map(repr, want)):
            return "everything is there, in another order"
    for long, short, word in ((want, got, "missing"), (got, want, "too many")):
        if len(long) == len(short) + 1 > 1:
            if list(long[1:]) == list(short):
                return f"all is right but that {_short(long[0])} is {word} at the beginning"
            if list(long[:-1]) == list(short):
                return f"all is right but that {_short(long[-1])} is {word} at the end"
    return None


def _stretched(got, want):
    """The axes of shape `got` over which to sum to come back to `want`; None if `want` does not broadcast to it."""
    lead = len(got) - len(want)
    if lead < 0:
        return None
    axes = list(range(lead))
    for axis, (g, w) in enumerate(zip(got[lead:], want), lead):
        if g != w:
            if w != 1:
                return None
            axes.append(axis)
    return axes or None


def _of_shapes(got, want, noun="the result"):
    import numpy as np

    if [n for n in got if n != 1] == [n for n in want if n != 1]:
        if len(got) < len(want):
            return "an axis of length 1 is missing: was it to be kept (keepdims=True)?"
        if len(got) > len(want):
            return "there is an axis of length 1 too many: keepdims where none was asked for, or a slice for an index"
        return "the axis of length 1 is in another place"
    if len(got) == len(want) >= 2 and got == want[::-1]:
        return "the axes are the other way round: transposed, or the operands of a product swapped"
    axes = _stretched(got, want)
    if axes and noun == "your gradient":
        which = f"axis {axes[0]}" if len(axes) == 1 else f"axes {tuple(axes)}"
        return (
            f"your gradient has the shape of the broadcast result; sum over the stretched {which}, "
            f"and it has the input's shape {want}"
        )
    if _stretched(want, got) and noun == "your gradient":
        return f"your gradient is smaller than its input: spread it over the shape {want} again (broadcast_to)"
    if axes:
        which = f"axis {axes[0]}" if len(axes) == 1 else f"axes {tuple(axes)}"
        return f"{which} should be gone, or of length 1: a sum, mean or choice over it is missing, or it was broadcast"
    if len(got) == len(want) and sorted(got) == sorted(want):
        return "the lengths are right and the axes in another order: a transpose too many or too few"
    if np.prod(got, dtype=int) == np.prod(want, dtype=int):
        return "as many numbers, in another shape: a reshape is missing, or uses other lengths"
    if len(got) == len(want):
        off = [(i, g - w) for i, (g, w) in enumerate(zip(got, want)) if g != w]
        if len(off) == 1 and abs(off[0][1]) == 1 and noun != "your gradient" and want[off[0][0]] >= FEW:
            axis, by = off[0]
            return f"axis {axis} is one too {'long' if by > 0 else 'short'}: off by one"
    if len(got) == len(want) - 1:
        for i in range(len(want)):
            if got == want[:i] + want[i + 1 :]:
                return f"axis {i} of length {want[i]} is gone: reduced over it, or indexed where a slice was needed"
    return None


def _of_arrays_of_two_shapes(a, b, noun):
    import numpy as np

    shape = _of_shapes(a.shape, b.shape, noun)
    if text := _longer(a, b):
        return text
    if a.size and b.size and a.ndim == b.ndim and "f" in (a.dtype.kind, b.dtype.kind) or a.ndim == b.ndim == 1:
        x, y = a.sum(dtype=np.float64), b.sum(dtype=np.float64)
        moved = a.size == b.size and _same(np.sort(a, axis=None), np.sort(b, axis=None)).all()
        if min(a.size, b.size) > 1 and x != 0 and np.isclose(x, y, rtol=1e-6) and not moved:
            return "all values together are right (the totals are equal): summed over the wrong axis"
    return shape


def _longer(a, b):
    """One holds the other at its beginning, and goes on."""
    axes = [axis for axis, (n, m) in enumerate(zip(a.shape, b.shape)) if n != m]
    if a.ndim != b.ndim or len(axes) != 1:
        return None
    (axis,), both = axes, min(a.size, b.size)
    n, m = a.shape[axis], b.shape[axis]
    part = (slice(None),) * axis + (slice(min(n, m)),)
    if both >= FEW and _same(a[part], b[part]).all():
        more = f"{n - m} more follow" if n > m else f"{m - n} more are missing"
        return f"the first {min(n, m)} along axis {axis} are right, and {more}"
    return None


def _of_values(a, b, noun, context):
    import numpy as np

    if not a.size:
        return None
    a, b = a.astype(np.float64), b.astype(np.float64)
    wrong = ~_same(a, b)
    if not wrong.any():
        if np.array_equal(a, b, equal_nan=True):
            return None
        small = (a == 0) & (b != 0)
        if small.any():
            return "numbers near zero became zero: 1 + x forgets a tiny x (log1p, expm1), or a difference cancels them"
        if (abs(a - b) <= 1e-4 * abs(b)).all():
            return "the numbers agree to four digits: rounded on the way, or another order of the arithmetic"
        return None
    lost = ~np.isfinite(a) & np.isfinite(b)
    if lost.any():
        if np.isnan(a[lost]).any():
            return (
                f"{noun} is NaN where a number belongs: 0/0, inf - inf, or a root or logarithm below zero came before"
            )
        return f"{noun} is infinite where a number belongs: exp overflowed, or something was divided by zero"
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        return f"{noun} is a number where {b[wrong][0]:g} was expected" if not np.isfinite(b[wrong]).all() else None
    if wrong.all() or (b[~wrong] == 0).all():  # zeros fit every factor
        for found in (_zero, _sign, _floored, _factor):
            if text := found(a, b, noun, context):
                return text
    if a.size > MANY:
        return None
    for found in (_transposed, _shifted, _reversed, _repeated, _constant, _edge, _ordered, _signs, _near, _per_axis):
        if text := found(a, b, wrong, noun):
            return text
    return None


def _zero(a, b, noun, context):
    if not a.any() and (a.size > 1 or noun == "your gradient"):
        return f"{noun} is zero everywhere: " + (
            "nothing was added to it, or the rule cuts it off"
            if noun == "your gradient"
            else "it was made and never filled, or a mask hides all of it"
            + (", or it was cut to whole numbers (//, an integer dtype)" if (abs(b) < 1).all() else "")
        )
    return None


def _floored(a, b, noun, context):
    import numpy as np

    if a.size >= 2 and a.any() and ((a == np.floor(b)).all() or (a == np.trunc(b)).all()):
        return f"{noun} was cut to whole numbers: // for /, or an integer dtype on the way"
    return None


def _sign(a, b, noun, context):
    if _same(-a, b).all():
        return f"{noun} has the right size and the opposite sign: a minus is missing or one too many"
    return None


def _factor(a, b, noun, context):
    import numpy as np

    used = b != 0
    ratio = a[used] / b[used]
    r = float(np.median(ratio))
    if abs(r) < 1e-12 or abs(abs(r) - 1) < 2e-3 or not np.allclose(ratio, r, rtol=1e-4):
        return None
    alone = ratio.size < 3 or np.ptp(b[used]) == 0  # one number, or as good as one: it may be chance
    size = abs(r)
    sign = " and has the opposite sign" if r < 0 else ""
    said = f"everything is {_times(size)}" if b.size > 1 else f"{noun} is {_times(size)}"
    lengths = {n: f"the length of axis {axis}" for axis, n in enumerate(b.shape) if n > 1 and not alone}
    if b.size > 1 and len(b.shape) > 1:
        lengths[b.size] = "the number of values"
    spread = re.search(r"(\b|_)var(\b|_)|variance|std|deviation|spread", context, re.I)
    for power, name in ((1, "variance"), (0.5, "standard deviation")):
        for way in (1, -1):
            n = _bessel(size ** (way / power))
            if spread and n:
                took, needs = ("n - 1", "n") if way > 0 else ("n", "n - 1")
                return f"{said}{sign}: a {name} of n = {n} values divided by {took} where {needs} belongs"
    if alone and (not _known(r, 9) or (a == a.round()).all() and (b == b.round()).all()):
        return None
    for n, what in lengths.items():
        if np.isclose(size, n, rtol=1e-4):
            return f"{said}{sign}: {n} is {what}; a sum where the mean belongs?"
        if np.isclose(size, 1 / n, rtol=1e-4):
            return f"{said}{sign}: {n} is {what}; a mean where the sum belongs, or divided by it twice?"
    root = round(size**2)
    if root > 1 and np.isclose(size, np.sqrt(root), rtol=1e-4) and abs(size - round(size)) > 1e-3:
        return f"{said}{sign}: that is the root of {root}; scaled by a root too few or too many?"
    return f"{said}{sign}"


def _known(r, most):
    """Whether one number alone is enough to believe in the factor `r`: a whole number up to `most`, or one over it."""
    return any(abs(x - round(x)) < 1e-4 * x and 2 <= round(x) <= most for x in (abs(r), 1 / abs(r)))


def _times(size):
    if size < 1:
        return f"{_plain(1 / size)} times too small"
    return f"{_plain(size)} times too large"


def _plain(x):
    """2, 1.5 or 3/2-like numbers without a tail of digits."""
    if abs(x - round(x)) < 1e-4 * x:
        return str(round(x))
    near = Fraction(x).limit_denominator(12)
    return f"{near.numerator}/{near.denominator}" if abs(x - near) < 1e-4 * x else f"{x:.4g}"


def _bessel(r):
    """n, where r = n / (n - 1) for an n of 2 to 1000; None if there is none."""
    if r <= 1:
        return None
    n = round(r / (r - 1))
    return n if 2 <= n <= 1000 and abs(n / (n - 1) - r) < 1e-5 * r else None


def _transposed(a, b, wrong, noun):
    if a.ndim >= 2 and a.shape[-1] == a.shape[-2] > 1 and _same(a.swapaxes(-1, -2), b).all():
        return f"{noun} is transposed: rows and columns are the other way round"
    return None


def _shifted(a, b, wrong, noun):
    for axis in range(a.ndim):
        n = a.shape[axis]
        if n < 3:
            continue
        for by in (1, 2):
            if n - by < 2:
                continue
            head, tail = [slice(None)] * a.ndim, [slice(None)] * a.ndim
            head[axis], tail[axis] = slice(None, n - by), slice(by, None)
            head, tail = tuple(head), tuple(tail)
            if _varied(b[head], axis) and _same(a[tail], b[head]).all():
                return f"the values are shifted by {by} along axis {axis}, towards the end: off by one in an index"
            if _varied(b[tail], axis) and _same(a[head], b[tail]).all():
                return (
                    f"the values are shifted by {by} along axis {axis}, towards the beginning: off by one in an index"
                )
    return None


def _varied(part, axis):
    """Whether a shift would show."""
    return part.size >= 2 and not _same(part, part.take([0], axis) + 0 * part).all()


def _reversed(a, b, wrong, noun):
    for axis in range(a.ndim):
        if a.shape[axis] > 2 and _same(a[(slice(None),) * axis + (slice(None, None, -1),)], b).all():
            return f"the values stand in the opposite order along axis {axis}"
    return None


def _repeated(a, b, wrong, noun):
    """Some entries are one of several equal shares, the rest is right."""
    import numpy as np

    if wrong.all() or noun != "your gradient":
        return None
    x, y = a[wrong], b[wrong]
    with np.errstate(all="ignore"):
        if (x == 0).all():
            return None
        for top, under, text in (
            (
                y,
                x,
                "some entries hold one share where several belong: values for the same place must be added, not set",
            ),
            (x, y, "some entries were counted more than once"),
        ):
            times = top / under
            if np.isfinite(times).all() and (abs(times - times.round()) < 1e-4).all() and (times.round() >= 2).all():
                return text
    return None


def _constant(a, b, wrong, noun):
    import numpy as np

    off = a - b
    if a.size >= FEW and wrong.all() and np.allclose(off, off.flat[0], rtol=1e-4, atol=1e-7) and np.ptp(b) > 0:
        word = "large" if off.flat[0] > 0 else "small"
        by = f"every value is too {word} by the same {abs(off.flat[0]):.4g}"
        return f"{by}: something is added that does not belong, or left out"
    return None


def _edge(a, b, wrong, noun):
    if wrong.all() or a.size < FEW:
        return None
    for axis in range(a.ndim):
        if a.shape[axis] < 3 or a.size < 2 * FEW:
            continue
        other = tuple(i for i in range(a.ndim) if i != axis)
        at = wrong.any(axis=other).nonzero()[0].tolist()
        for place, word in ((0, "first"), (a.shape[axis] - 1, "last")):
            if at == [place]:
                return f"only the {word} entry along axis {axis} is wrong: look at how the range begins and ends"
        if at == [0, a.shape[axis] - 1]:
            return f"only the two ends along axis {axis} are wrong: look at the edges"
    return None


def _ordered(a, b, wrong, noun):
    import numpy as np

    if a.size >= 3 and np.ptp(b) > 0 and _same(np.sort(a, axis=None), np.sort(b, axis=None)).all():
        return "the values are right and stand in other places: another order of axes, indices or a reshape"
    return None


def _signs(a, b, wrong, noun):
    if a.size >= FEW and _same(abs(a), abs(b)).all():
        return f"{noun} has the wrong sign at {int(wrong.sum())} of {a.size} places, and the right size everywhere"
    return None


def _per_axis(a, b, wrong, noun):
    import numpy as np

    if a.ndim < 2:
        return None
    with np.errstate(all="ignore"):
        ratio = np.where(b == 0, np.nan, a / np.where(b == 0, 1, b))
    for axis in range(a.ndim):
        if a.shape[axis] < 2:
            continue
        rows = np.moveaxis(ratio, axis, -1).reshape(-1, a.shape[axis])
        rows = rows[((~np.isnan(rows)).sum(axis=1) >= 2) & (abs(rows - 1) > 1e-5).any(axis=1)]
        if len(rows) >= 2 and rows.size >= 6:
            spread = np.nanmax(rows, axis=1) - np.nanmin(rows, axis=1)
            if (spread <= 1e-4 * abs(np.nanmean(rows, axis=1))).all():
                return (
                    f"along axis {axis} every value is off by one common factor, another in each line: "
                    f"divided or scaled by a number taken over the wrong axis, or not at all"
                )
    total_a, total_b = a.sum(), b.sum()
    if a.size >= FEW and abs(total_b) > 1e-4 and np.isclose(total_a, total_b, rtol=1e-6):
        return "all values together are right (the totals are equal), each one is not: divided up along another axis?"
    return None


def _near(a, b, wrong, noun):
    import numpy as np

    off = np.abs(a - b)[wrong] / np.maximum(np.abs(b[wrong]), 1e-12)
    if off.max() < 2e-3:
        return f"right to {off.max():.0e}: a small constant (eps) in another place or of another size, or fewer digits"
    return None


WARNED = [
    (
        r"overflow encountered in (exp|expm1|cosh)",
        "{0} of a large number overflowed: subtract the maximum first, or use a form without large powers",
    ),
    (
        r"overflow encountered in (square|power|multiply)",
        "a product of large numbers overflowed ({0}): divide or cut them first, or use a form without large powers",
    ),
    (
        r"divide by zero encountered in log",
        "the logarithm of 0 was taken: keep its argument above 0, or use a form that never gets there",
    ),
    (r"divide by zero", "something was divided by zero: what if every value is 0, or there is none?"),
    (r"invalid value encountered in log", "the logarithm of a number below 0 was taken"),
    (r"invalid value encountered in sqrt", "the root of a number below 0 was taken"),
    (
        r"invalid value encountered",
        "0/0 or inf - inf gave NaN: take care of that case before the division or subtraction",
    ),
    (r"[Mm]ean of empty slice|Degrees of freedom", "a mean or variance over no values"),
    (r"overflow encountered", "a number grew beyond what its dtype holds"),
    (r"underflow encountered", "a number fell below what its dtype holds"),
]

RAISED = [
    ("NotImplementedError", r"module \d+: write (.*)", "{0} is not written yet"),
    (
        "Failed",
        r"DID NOT RAISE (?:<class ')?(?:\w+\.)*(\w+)",
        "this must be refused, and was accepted: the check that raises {0} is missing or lets it through",
    ),
    (
        "AssertionError",
        r"Regex pattern did not match|does not match",
        "the right kind of error, but not its message: say who, what was needed and what came",
    ),
    (
        "ValueError",
        r"read-only|not writeable",
        "an array is changed in place that belongs to somebody else: write into a copy",
    ),
    ("RuntimeError", r"returned a gradient of shape (\(.*?\)) for input \d+ of shape (\(.*?\))", None),
    ("RuntimeError", r"backward gives (\S+) and finite differences (\S+),", None),
    (
        "RuntimeError",
        r"returned no gradient for input (\d+)",
        "your gradient is None for input {0}: the rule must return one array per input, in their order",
    ),
    (
        "RuntimeError",
        r"returned (\d+) gradients for (\d+) inputs",
        "the rule must return as many gradients as the operation has inputs, {1}; None for those that need none",
    ),
    (
        "RuntimeError",
        r"returned a float64 gradient for input \d+, which is float32",
        "float64 came out where float32 went in: a NumPy scalar or an array made in the rule was float64",
    ),
    (
        "ValueError",
        r"operands could not be broadcast together with shapes (\(.*?\)) (\(.*?\))",
        None,
    ),
    (
        "ValueError",
        r"matmul: Input operand 1 has a mismatch",
        "the inner lengths of a product differ: transpose one operand, or swap them",
    ),
    (
        "ValueError",
        r"cannot reshape array of size (\d+) into shape (\(.*?\))",
        "{0} values do not fill {1}: another axis was expected to be there",
    ),
    (
        "ValueError",
        r"truth value of an array",
        "an array stands where True or False is needed: use np.where, .any() or .all()",
    ),
    (
        "AxisError|IndexError",
        r"axis (-?\d+) is out of bounds for array of dimension (\d+)",
        "there is no axis {0} in an array of {1} axes: count it from the end (-1), or keep the axes",
    ),
    (
        "IndexError",
        r"index (-?\d+) is out of bounds for axis (\d+) with size (\d+)",
        "index {0} where the last one is size - 1 of {2}: off by one, or an index that was not checked",
    ),
    (
        "IndexError",
        r"list index out of range|string index out of range|tuple index out of range",
        "an index runs past the end: off by one, or the case of nothing left",
    ),
    (
        "UFuncTypeError|TypeError",
        r"Cannot cast ufunc .* from dtype\('(\w+)'\) to dtype\('(\w+)'\)",
        "a {0} result cannot be stored in a {1} array in place: use x = x + ..., or make the array {0}",
    ),
    (
        "TypeError|AttributeError",
        r"'?NoneType'?",
        "something is None where a value is needed: is a return missing, or was a gradient never set?",
    ),
    ("RecursionError", r"", "a function calls itself without end, or once per operation: use a loop"),
    ("UnboundLocalError", r"local variable '(\w+)'", "{0} is set on one way through the function only"),
    ("KeyError", r"(.*)", "there is no entry {0}: it was never put in, or under another name"),
    ("ZeroDivisionError", r"", "divided by zero: what if there are none?"),
]


def of_message(kind, message, context=""):
    """The likely reason behind an exception, from its type and text, or None."""
    if kind.endswith("Warning"):
        for pattern, text in WARNED:
            if found := re.search(pattern, message):
                return text.format(*found.groups())
    for kinds, pattern, text in RAISED:
        if re.fullmatch(kinds, kind) and (found := re.search(pattern, message)):
            if text is not None:
                return text.format(*found.groups())
            if "broadcast together" in pattern:
                return _of_operands(*found.groups())
            if "shape" in pattern:
                got, want = (tuple(int(n) for n in re.findall(r"\d+", shape)) for shape in found.groups())
                return _of_shapes(got, want, "your gradient")
            return _of_slopes(float(found[1]), float(found[2]))
    if kind == "AssertionError":
        if re.search(r"(shares|may_share)_memory|\.data is not \w+\.data", context + message):
            return "the result is a view of its input, or the input itself: changing one changes the other; copy"
        if re.search(INPUT, context):
            return "an input was changed in place: compute into a new array"
    return None


def _of_operands(one, other):
    """Of two shapes, as NumPy writes them, that do not broadcast."""
    left, right = (tuple(int(n) for n in re.findall(r"\d+", shape)) for shape in (one, other))
    said = f"{one} and {other} do not fit axis by axis from the right: "
    if len(left) == len(right) == 2 and left[1] == right[0]:
        return said + "keepdims, or a reshape, is missing; their matrix product (@) would exist"
    return said + "keepdims, or a reshape, is missing"


def _of_slopes(got, want):
    """Of one number of a gradient and the slope measured there."""
    if want and abs(got) < 1e-9 * max(1, abs(want)):
        return "your gradient is zero where the function changes: a path to this input is missing"
    if abs(got + want) <= 1e-4 * abs(want):
        return "your gradient has the right size and the opposite sign: a minus is missing or one too many"
    if want and abs(want) < 1e-7:
        return "your gradient is not zero where the function does not change"
    ratio = got / want if want else 0
    if ratio and _known(ratio, 64):
        sign = " and has the opposite sign" if ratio < 0 else ""
        return f"your gradient is {_times(abs(ratio))}{sign} at this place"
    return None
