"""Blocks, products, softmax, scratch memory: the same numbers as the naive forms, and the work cut as promised."""

import threading
import tracemalloc

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import softmax
from tinytorch.core.tensor import Tensor, from_numpy
from tinytorch.optimization.acceleration import (
    Workspace,
    blocked_softmax,
    blocks,
    by_rows,
    naive_matmul,
    rowwise_matmul,
    softmax_rows,
    threaded_matmul,
    tiled_matmul,
)

PRODUCTS = {
    "naive": naive_matmul,
    "rowwise": rowwise_matmul,
    "tiled": tiled_matmul,
    "tiles of 1": lambda a, b: tiled_matmul(a, b, 1),
    "tiles of 3": lambda a, b: tiled_matmul(a, b, 3),
    "threaded": threaded_matmul,
    "threaded, 2 rows, 3 threads": lambda a, b: threaded_matmul(a, b, 2, 3),
}
products = pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


class Watched(np.ndarray):
    """An array that notes the shape of every piece taken out of it."""

    taken = ()

    def __getitem__(self, index):
        piece = np.asarray(super().__getitem__(index))
        self.taken.append(piece.shape)
        return piece


class TestBlocks:
    @pytest.mark.parametrize(
        ("n", "size", "want"),
        [
            (5, 2, [(0, 2), (2, 4), (4, 5)]),
            (4, 2, [(0, 2), (2, 4)]),
            (2, 9, [(0, 2)]),
            (0, 3, []),
            (3, 1, [(0, 1), (1, 2), (2, 3)]),
        ],
    )
    def test_they_cut_everything_into_pieces(self, n, size, want):
        assert [(part.start, part.stop) for part in blocks(n, size)] == want

    @pytest.mark.parametrize("size", [0, -2])
    def test_a_size_below_1_is_refused(self, size):
        with pytest.raises(ValueError, match=f"blocks needs size of at least 1, got {size}"):
            blocks(4, size)

    @pytest.mark.parametrize("size", [1.5, None, True])
    def test_a_size_that_is_no_integer_is_refused(self, size):
        with pytest.raises(TypeError, match="blocks needs an integer size"):
            blocks(4, size)

    @pytest.mark.parametrize("n", [-1, 2.0, None, True])
    def test_a_number_of_things_that_is_none_is_refused(self, n):
        with pytest.raises(ValueError, match="blocks needs a whole number of things, at least 0, got"):
            blocks(n, 2)


class TestProducts:
    @products
    @pytest.mark.parametrize("sizes", [(2, 3, 4), (1, 1, 1), (5, 7, 9), (4, 1, 3), (1, 8, 1)])
    def test_the_numbers_of_a_matrix_product(self, product, sizes):
        M, K, N = sizes
        a, b = normal(M, K, dtype=np.float64), normal(K + 1, N, dtype=np.float64)[1:]
        assert_close(product(a, b), a @ b, rtol=1e-12, atol=1e-12)

    @products
    @pytest.mark.parametrize("sizes", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
    def test_empty_matrices(self, product, sizes):
        M, K, N = sizes
        assert_close(product(np.ones((M, K), np.float32), np.ones((K, N), np.float32)), np.zeros((M, N), np.float32))

    @products
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_dtype_stays(self, product, dtype):
        assert product(np.ones((2, 3), dtype), np.ones((3, 2), dtype)).dtype == dtype

    @products
    def test_transposed_and_strided_matrices(self, product):
        a, b = normal(7, 4).T, normal(14, 6)[::2, ::-2]
        assert_close(product(a, b), a @ b, rtol=1e-5, atol=1e-5)

    @products
    def test_inputs_are_only_read(self, product):
        a, b = normal(3, 4), normal(4, 5)
        a.flags.writeable = b.flags.writeable = False
        assert_close(product(a, b), a @ b, atol=1e-5)

    @products
    @pytest.mark.parametrize(("a", "b"), [((2, 3), (2, 3)), ((3,), (3, 2)), ((2, 3), (3,)), ((1, 2, 3), (3, 2))])
    def test_shapes_that_do_not_fit_are_refused(self, product, a, b):
        with pytest.raises(ValueError, match=r"matmul needs matrices \(M, K\) and \(K, N\), got \("):
            product(np.ones(a, np.float32), np.ones(b, np.float32))

    @products
    def test_integers_are_refused(self, product):
        with pytest.raises(TypeError, match=r"matmul needs arrays of floats, got int64; try x.astype\(np.float32\)"):
            product(np.ones((2, 2), np.int64), np.ones((2, 2), np.int64))

    @products
    def test_two_dtypes_are_refused(self, product):
        with pytest.raises(TypeError, match="needs arrays of one dtype, got float32 and float64"):
            product(np.ones((2, 2), np.float32), np.ones((2, 2)))

    @products
    def test_tensors_and_lists_are_refused(self, product):
        with pytest.raises(TypeError, match="needs arrays of floats, got Tensor; give its array, x.data"):
            product(Tensor([[1.0]]), np.ones((1, 1), np.float32))
        with pytest.raises(TypeError, match="needs arrays of floats, got list$"):
            product([[1.0]], np.ones((1, 1), np.float32))


class TestTiles:
    @pytest.mark.parametrize(("K", "N", "tile", "count"), [(6, 6, 3, 4), (7, 5, 3, 6), (4, 4, 9, 1), (5, 2, 1, 10)])
    def test_each_tile_is_fetched_once_for_all_rows(self, K, N, tile, count):
        b = normal(K, N).view(Watched)
        b.taken = []
        tiled_matmul(normal(20, K), b, tile)
        assert len(b.taken) == count
        assert sum(rows * columns for rows, columns in b.taken) == b.size
        assert max(max(shape) for shape in b.taken) <= tile

    @pytest.mark.parametrize("tile", [0, -1])
    def test_a_tile_of_nothing_is_refused(self, tile):
        with pytest.raises(ValueError, match=f"tiled_matmul needs tile of at least 1, got {tile}"):
            tiled_matmul(normal(2, 2), normal(2, 2), tile)

    def test_a_tile_that_is_no_integer_is_refused(self):
        with pytest.raises(TypeError, match="tiled_matmul needs an integer tile, got 2.5"):
            tiled_matmul(normal(2, 2), normal(2, 2), 2.5)


class TestSoftmax:
    @pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 7), (3, 200)])
    @pytest.mark.parametrize("block", [1, 10, 131072])
    def test_it_is_the_softmax_of_every_row(self, shape, block):
        x = normal(*shape)
        assert_close(blocked_softmax(x, block=block), softmax(from_numpy(x)).data)

    def test_by_hand(self):
        x = np.log(np.array([[1, 3], [2, 2]], np.float32))
        assert_close(blocked_softmax(x), np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))

    @pytest.mark.parametrize("value", [1e4, -1e4, 3e38, -3e38])
    def test_large_numbers(self, value):
        x = np.full((2, 4), value, np.float32)
        x[1, 0] = 0
        assert_close(blocked_softmax(x), softmax(from_numpy(x)).data)

    def test_minus_infinity_gets_nothing_and_rows_of_it_are_zeros(self):
        x = np.array([[0, -np.inf, 0], [-np.inf] * 3], np.float32)
        assert_close(blocked_softmax(x), np.array([[0.5, 0, 0.5], [0, 0, 0]], np.float32))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_dtype_stays(self, dtype):
        assert blocked_softmax(normal(2, 3, dtype=dtype)).dtype == dtype

    def test_it_may_be_done_in_place(self):
        x = normal(6, 4)
        want = blocked_softmax(x)
        assert blocked_softmax(x, out=x, block=8) is x
        assert_close(x, want)

    def test_the_kernel_writes_where_it_is_told(self):
        x, out = normal(4, 3), np.full((4, 3), 7, np.float32)
        softmax_rows(x[1:3], out[1:3])
        assert_close(out[[0, 3]], np.full((2, 3), 7, np.float32))
        assert_close(out[1:3], softmax(from_numpy(x[1:3])).data)

    def test_no_rows(self):
        assert blocked_softmax(np.ones((0, 3), np.float32)).shape == (0, 3)

    def test_nothing_as_large_as_the_input_is_made(self):
        x = normal(1000, 200)
        out = np.empty_like(x)
        tracemalloc.start()
        blocked_softmax(x, out, threads=1, block=2000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < x.nbytes / 20

    @pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (3, 0)])
    def test_what_has_no_rows_of_numbers_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"blocked_softmax needs rows of at least one number, \(M, C\), got shape"):
            blocked_softmax(np.ones(shape, np.float32))

    def test_an_out_that_does_not_fit_is_refused(self):
        with pytest.raises(ValueError, match=r"needs an out of shape \(2, 3\), got \(3, 2\)"):
            blocked_softmax(normal(2, 3), out=np.empty((3, 2), np.float32))
        with pytest.raises(TypeError, match="needs arrays of one dtype, got float32 and float64"):
            blocked_softmax(normal(2, 3), out=np.empty((2, 3)))

    def test_integers_are_refused(self):
        with pytest.raises(TypeError, match="blocked_softmax needs arrays of floats, got int64"):
            blocked_softmax(np.ones((2, 2), np.int64))


class TestByRows:
    def test_every_row_has_its_turn_once(self):
        x, counts = np.arange(10.0), np.zeros(10)

        def kernel(x, counts):
            counts += x + 1

        by_rows(kernel, x, counts, block=3)
        assert_close(counts, np.arange(1.0, 11))

    @pytest.mark.parametrize(
        ("shapes", "block", "want"),
        [
            ([(10,)], 4, [4, 4, 2]),
            ([(10, 4)], 8, [2] * 5),
            ([(10, 2), (10, 8)], 16, [2] * 5),
            ([(3, 100)], 10, [1] * 3),
        ],
    )
    def test_a_block_is_about_as_many_elements_of_the_widest_array(self, shapes, block, want):
        seen = []
        by_rows(
            lambda *pieces: seen.append({len(piece) for piece in pieces}), *map(np.ones, shapes), threads=1, block=block
        )
        assert seen == [{rows} for rows in want]

    def test_what_the_blocks_are_does_not_depend_on_the_threads(self):
        cuts = []
        for threads in (1, 2, 5):
            seen = []
            by_rows(lambda x, seen=seen: seen.append((x[0], len(x))), np.arange(100), threads=threads, block=7)
            cuts.append(sorted(seen))
        assert cuts[0] == cuts[1] == cuts[2]

    @pytest.mark.parametrize("shapes", [[], [(3,), (4,)], [()], [(2, 3), (3, 2)]])
    def test_arrays_of_different_lengths_are_refused(self, shapes):
        with pytest.raises(ValueError, match="by_rows needs arrays with equally many rows, got shapes"):
            by_rows(print, *map(np.ones, shapes))

    def test_a_block_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="by_rows needs block of at least 1, got 0"):
            by_rows(print, np.ones(3), block=0)


class TestWorkspace:
    def test_shape_and_dtype_are_as_asked(self):
        room = Workspace()
        for dtype in (np.float32, np.float64):
            taken = room.take("t", (2, 3), np.ones(1, dtype))
            assert (taken.shape, taken.dtype) == ((2, 3), dtype)

    @pytest.mark.parametrize("shape", [(2, 3), (3, 2), (6,), (1, 2), (0, 5), ()])
    def test_the_same_name_is_the_same_memory(self, shape):
        room, like = Workspace(), np.ones(1, np.float32)
        first = room.take("t", (2, 3), like)
        again = room.take("t", shape, like)
        assert again.shape == shape
        assert again.base is first.base
        assert room.nbytes == 24

    def test_names_and_dtypes_keep_apart(self):
        room, like = Workspace(), np.ones(1, np.float32)
        t, u, double = room.take("t", (4,), like), room.take("u", (4,), like), room.take("t", (4,), np.ones(1))
        assert not np.shares_memory(t, u)
        assert not np.shares_memory(t, double)
        assert room.nbytes == 16 + 16 + 32

    def test_more_is_taken_when_it_is_not_enough(self):
        room, like = Workspace(), np.ones(1, np.float32)
        room.take("t", (4,), like)
        assert room.take("t", (3, 3), like).shape == (3, 3)
        assert room.nbytes == 36

    def test_threads_keep_apart(self):
        room, like, theirs = Workspace(), np.ones(1, np.float32), []
        mine = room.take("t", (4,), like)
        thread = threading.Thread(target=lambda: theirs.append((room.nbytes, room.take("t", (4,), like))))
        thread.start()
        thread.join()
        assert theirs[0][0] == 0
        assert not np.shares_memory(mine, theirs[0][1])

    def test_it_can_be_cleared(self):
        room = Workspace()
        room.take("t", (4,), np.ones(1))
        room.clear()
        assert room.nbytes == 0
