"""What `tito test` says of a comparison that failed: where the values part, and the reason that the numbers suggest."""

import numpy as np
import pytest

from support.checks import assert_close
from tito.causes import cause, difference, explain, of_message

RNG = np.random.default_rng(0)
A = RNG.normal(size=(4, 5)).astype(np.float32)
SQUARE = RNG.normal(size=(4, 4)).astype(np.float32)
LINE = RNG.normal(size=7).astype(np.float32)
NAN = np.where(A > 1, np.nan, A)
PADDED = A.copy()
PADDED[:, -1] += 1
LOST = np.array([2.0, 0.5, 1.0, 4.0])
SIGNS = A.copy()
SIGNS[1, 1:4] *= -1

PATTERNS = {
    "the shape of the broadcast result": (np.ones((3, 4)), np.ones(4), "grad", "sum over the stretched axis 0"),
    "an axis of length 1 was stretched": (np.ones((3, 4)), np.ones((3, 1)), "grad", "sum over the stretched axis 1"),
    "two axes were stretched": (np.ones((2, 3, 4)), np.ones((1, 4)), "grad", "sum over the stretched axes (0, 1)"),
    "a gradient that never spread": (np.ones(4), np.ones((3, 4)), "grad", "spread it over the shape (3, 4)"),
    "no gradient": (None, A, "x.grad", "your gradient is None"),
    "nothing returned": (None, A, "", "is a return missing"),
    "a gradient of zeros": (0 * A, A, "x.grad", "your gradient is zero everywhere"),
    "twice as much": (2 * A, A, "", "everything is 2 times too large"),
    "a third": (A / 3, A, "", "everything is 3 times too small"),
    "one and a half times": (1.5 * A, A, "", "everything is 3/2 times too large"),
    "a sum for a mean": (5 * A, A, "", "5 is the length of axis 1; a sum where the mean belongs"),
    "a mean for a sum": (A / 4, A, "", "4 is the length of axis 0; a mean where the sum belongs"),
    "divided by all of them": (A / 20, A, "", "20 is the number of values; a mean where the sum belongs"),
    "unscaled by a root": (A * 8**0.5, A, "", "the root of 8"),
    "variance over n - 1": (A * 8 / 7, A, "var", "a variance of n = 8 values divided by n - 1 where n belongs"),
    "variance over n": (A * 7 / 8, A, "var", "a variance of n = 8 values divided by n where n - 1 belongs"),
    "deviation over n": (A * (7 / 8) ** 0.5, A, "std", "a standard deviation of n = 8 values divided by n where"),
    "variance of two rows": (np.full(2, 2 / 3), np.ones(2), "var", "a variance of n = 3 values divided by n where"),
    "the opposite sign": (-A, A, "", "opposite sign"),
    "signs here and there": (SIGNS, A, "", "the wrong sign at 3 of 20 places"),
    "transposed values": (SQUARE.T, SQUARE, "", "the result is transposed"),
    "transposed shape": (A.T, A, "", "the axes are the other way round"),
    "an axis was not kept": (A.sum(1), A.sum(1, keepdims=True), "", "keepdims=True"),
    "an axis too many": (A.sum(1, keepdims=True), A.sum(1), "", "an axis of length 1 too many"),
    "the wrong axis of a table": (A.sum(0), A.sum(1), "", "summed over the wrong axis"),
    "shares of the wrong axis": (SQUARE**2 / (SQUARE**2).sum(0), SQUARE**2 / (SQUARE**2).sum(1)[:, None], "", "axis"),
    "double precision": (A.astype(np.float64), A, "", "float64 came out where float32 went in"),
    "whole numbers": (np.array([1, 2]), np.array([1.0, 2.0]), "", "whole numbers cannot hold fractions"),
    "not a number": (NAN, A, "", "NaN where a number belongs"),
    "infinite": (np.where(A > 1, np.inf, A), A, "", "infinite where a number belongs"),
    "shifted to the end": (np.r_[0, LINE[:-1]], LINE, "", "shifted by 1 along axis 0, towards the end"),
    "shifted to the beginning": (np.r_[LINE[1:], 0], LINE, "", "shifted by 1 along axis 0, towards the beginning"),
    "reversed": (LINE[::-1], LINE, "", "opposite order along axis 0"),
    "in other places": (LINE[[1, 0, 2, 3, 5, 6, 4]], LINE, "", "stand in other places"),
    "the last column": (PADDED, A, "", "only the last entry along axis 1 is wrong"),
    "overwritten, not added": (LOST, LOST * [1, 2, 1, 2], "weight.grad", "must be added, not set"),
    "counted more than once": (LOST * [1, 2, 1, 2], LOST, "weight.grad", "counted more than once"),
    "the same amount": (A + 0.25, A, "", "too large by the same 0.25"),
    "an eps": (A * (1 + 1e-4 * abs(A)), A, "", "a small constant (eps)"),
    "tiny numbers lost": (0 * LINE, 1e-9 * LINE, "", "numbers near zero became zero"),
    "a factor of almost one": (A * 1.0002, A, "", "right to 2e-04"),
    "one axis is one too short": (RNG.normal(size=(4, 5)), np.ones((4, 6)), "", "axis 1 is one too short: off by one"),
    "one token too few": (["a", "b"], ["a", "b", "c"], "", "all is right but that 'c' is missing at the end"),
    "cut to whole numbers": (np.floor(9 * A), 9 * A, "", "cut to whole numbers"),
    "cut to nothing": (0 * LINE, abs(LINE) / 9, "", "or it was cut to whole numbers"),
    "room that was not asked for": (np.pad(A, ((0, 3), (0, 0))), A, "", "first 4 along axis 0 are right, and 3 more"),
    "tokens from the back": (["c", "b", "a"], ["a", "b", "c"], "", "in the opposite order"),
}


@pytest.mark.parametrize(("got", "want", "context", "said"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_is_recognised(got, want, context, said):
    assert said in cause(got, want, context)


def test_what_fits_no_pattern_has_no_reason():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(2, 5, size=rng.integers(1, 4)))
        assert cause(rng.normal(size=shape), rng.normal(size=shape)) is None


def test_one_number_alone_is_a_factor_off_only_if_the_factor_is_plain():
    assert "2 times too large" in cause(6.5, 3.25)
    assert cause(3.7, 3.0) is None
    assert cause([5.2, 5.2], [3.2, 3.2]) is None


@pytest.mark.parametrize(
    ("got", "want", "context"),
    [
        (24, 8, ""),
        ([1.0], [0.1], ""),
        ([0.59, 0.41], [0.41, 0.59], ""),
        ([], [("add", 2)], ""),
        (A, A, ""),
        ([0.2 / 2**0.5] * 2, [0.2] * 2, "test_norms"),
        (np.ones((2, 1)), 2 * np.ones((2, 2)), "grad"),
    ],
    ids=["counts", "ten to one", "two exchanged", "nothing at all", "equal", "no variance", "a short axis"],
)
def test_what_may_be_chance_has_no_reason(got, want, context):
    said = cause(got, want, context)
    assert said is None or "spread it over" in said


MESSAGES = {
    "exp": ("RuntimeWarning", "overflow encountered in exp", "subtract the maximum first"),
    "log of 0": ("RuntimeWarning", "divide by zero encountered in log", "the logarithm of 0"),
    "0/0": ("RuntimeWarning", "invalid value encountered in divide", "0/0 or inf - inf gave NaN"),
    "accepted": ("Failed", "DID NOT RAISE ValueError", "this must be refused, and was accepted"),
    "accepted, with a class": ("Failed", "DID NOT RAISE <class 'ValueError'>", "the check that raises ValueError"),
    "read-only": ("ValueError", "output array is read-only", "write into a copy"),
    "rule": (
        "RuntimeError",
        "<AddBackward> returned a gradient of shape (3, 2) for input 1 of shape (2,); if the operation broadcasts",
        "your gradient has the shape of the broadcast result; sum over the stretched axis 0",
    ),
    "slope of the other sign": (
        "RuntimeError",
        "gradcheck: at (0,) of input 1, backward gives -1.5 and finite differences 1.5, a relative error",
        "opposite sign",
    ),
    "half a slope": ("RuntimeError", "backward gives 0.25 and finite differences 0.5, a", "2 times too small"),
    "no slope": ("RuntimeError", "backward gives 0 and finite differences 0.5, a", "your gradient is zero"),
    "do not fit": (
        "ValueError",
        "operands could not be broadcast together with shapes (3,4) (3,) ",
        "(3,4) and (3,) do not fit axis by axis from the right",
    ),
    "do not fit, but would as matrices": (
        "ValueError",
        "operands could not be broadcast together with shapes (3,4) (4,3) ",
        "their matrix product (@) would exist",
    ),
    "a product": ("RuntimeWarning", "overflow encountered in multiply", "a product of large numbers overflowed"),
    "past the end": ("IndexError", "index 5 is out of bounds for axis 0 with size 5", "off by one"),
    "in-place dtype": (
        "UFuncTypeError",
        "Cannot cast ufunc 'add' output from dtype('float64') to dtype('float32') with casting rule 'same_kind'",
        "a float64 result cannot be stored in a float32 array in place",
    ),
    "nothing": ("AttributeError", "'NoneType' object has no attribute 'shape'", "is a return missing"),
    "too deep": ("RecursionError", "maximum recursion depth exceeded", "use a loop"),
}


@pytest.mark.parametrize(("kind", "message", "said"), MESSAGES.values(), ids=MESSAGES)
def test_an_exception_is_explained(kind, message, said):
    assert said in of_message(kind, message)


def test_a_view_instead_of_a_copy():
    assert "a view of its input" in of_message("AssertionError", "", "assert not np.shares_memory(a, b)")


def test_an_input_changed_in_place():
    assert "changed in place" in of_message("AssertionError", "", "test_it_leaves_its_input_alone")
    assert of_message("AssertionError", "", "test_loading_counts_as_a_change_in_place") is None


class TestWhereTheyPart:
    def test_shape(self):
        assert difference(np.ones((2, 3)), np.ones(3)) == "expected shape (3,), got shape (2, 3)"

    def test_dtype(self):
        assert difference(np.ones(2), np.ones(2, np.float32)) == "expected dtype float32, got dtype float64"

    def test_first_place(self):
        text = difference([[1.0, 2.0], [3.0, 5.0]], np.array([[1.0, 2.0], [3.0, 4.0]]))
        assert text == "at index (1, 1): expected 4.0, got 5.0 (1 of 4 values differ, shape (2, 2))"

    def test_text(self):
        assert difference("a cat", "a dog") == "first differs at character 2: expected 'dog', got 'cat'"

    def test_words(self):
        assert difference(["a", "b"], ["a", "c"]) == "first differs at index 1: expected 'c', got 'b'"

    def test_sets(self):
        assert difference({"a", "b"}, {"b", "c"}) == "missing: ['c']; too many: ['a']"

    def test_entries(self):
        assert difference({"a": 1}, {"a": 1, "b": 2}) == "there is no 'b'; expected 2"


class TestFromAnError:
    """Expected and got are those of the assertion itself."""

    @staticmethod
    def caught(f, *given):
        with pytest.raises(AssertionError) as raised:
            f(*given)
        return explain(raised.value)

    def test_our_own_comparison(self):
        assert "2 times too large" in self.caught(assert_close, 2 * A, A)[1]

    def test_numpys_comparisons(self):
        assert "2 times too large" in self.caught(np.testing.assert_allclose, 2 * A, A)[1]
        assert "opposite sign" in self.caught(np.testing.assert_array_equal, -A, A)[1]

    def test_a_plain_assertion(self):
        told, reason = explain(
            AssertionError("assert [2.0, 4.0, 6.0] == [1.0, 2.0, 3.0]"), ("==", [2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
        )
        assert told == "at index (0,): expected 1.0, got 2.0 (3 of 3 values differ, shape (3,))"
        assert "2 times too large" in reason

    def test_of_another_comparison_inside_nothing_is_said(self):
        error = AssertionError("assert not np.True_\n +  where np.True_ = ...")
        assert explain(error, ("==", np.ones((3, 2)), 7)) == (None, None)

    def test_the_same_object_was_asked_for(self):
        error = AssertionError("assert array([1.]) is array([1.])")
        assert "another object" in explain(error, ("is", np.ones(1), np.ones(1)))[1]

    def test_an_index_error_in_the_check_itself(self):
        nothing = []
        with pytest.raises(IndexError) as raised:
            nothing[0]
        assert explain(raised.value, None, __file__)[1] == "the check read more values than your code returned"

    def test_an_approximate_one(self):
        assert "opposite sign" in explain(AssertionError(""), ("==", -2.5, pytest.approx(2.5)))[1]

    def test_only_the_failing_kind_of_comparison_counts(self):
        assert explain(AssertionError(""), ("<", 3, 2)) == (None, None)
