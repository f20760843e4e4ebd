"""KVCache: what goes in comes out, once, in its place; what does not fit changes nothing."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import Tensor, from_numpy, randn
from tinytorch.generation.kv_cache import KVCache, cache_bytes
from tinytorch.models.transformer import GPT
from tinytorch.optimization.compression import structured_prune
from tinytorch.text.embeddings import RotaryEmbedding

N, HEADS, D, ROOM, LAYERS = 2, 3, 4, 8, 2


def cache(**options):
    sizes = {"batch_size": N, "max_seq_len": ROOM, "num_layers": LAYERS, "num_heads": HEADS, "head_dim": D}
    return KVCache(**sizes | options)


def places(T, seed=0, dtype=np.float32, shape=(N, HEADS), width=D):
    """Keys and values of T places."""
    rng = np.random.default_rng(seed)
    return [from_numpy(rng.normal(size=(*shape, T, width)).astype(dtype)) for _ in range(2)]


def piece(kv, start, stop):
    return [from_numpy(x.data[..., start:stop, :].copy()) for x in kv]


def read(kv_cache, T, seed=0):
    """What every layer gives back for T new places."""
    return [layer.append(*places(T, seed + i)) for i, layer in enumerate(kv_cache)]


class TestAppend:
    def test_the_first_places_come_back_as_they_are(self):
        k, v = places(3)
        out = cache()[0].append(k, v)
        assert_close(out[0], k.data)
        assert_close(out[1], v.data)

    @pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1, 1, 1), (5, 1, 1, 1), (3, 5), (8,), (1, 0, 4, 2, 1), (0, 2)])
    def test_any_pieces_come_back_whole_after_each(self, cuts):
        whole, c, stop = places(8), cache(num_layers=1), 0
        for T in cuts:
            start, stop = stop, stop + T
            for got, want in zip(c[0].append(*piece(whole, start, stop)), whole):
                assert_close(got, want.data[..., :stop, :])
            assert len(c[0]) == stop

    def test_layers_keep_apart(self):
        c = cache()
        first = read(c, 3)
        for (k, v), seed in zip(first, (0, 1)):
            assert_close(k, places(3, seed)[0].data)
            assert_close(v, places(3, seed)[1].data)

    def test_keys_and_values_keep_apart(self):
        k, v = places(2)
        out = cache()[0].append(k, v)
        assert np.abs(out[0].data - out[1].data).min() > 0

    def test_texts_of_a_batch_keep_apart(self):
        k, v = places(2)
        alone = cache(batch_size=1)[0]
        got = alone.append(from_numpy(k.data[1:]), from_numpy(v.data[1:]))
        both = cache()[0].append(k, v)
        for a, b in zip(got, both):
            assert_close(a, b.data[1:])

    def test_what_comes_back_is_a_view(self):
        c = cache()
        k, v = c[1].append(*places(3))
        assert np.shares_memory(k.data, c.keys)
        assert np.shares_memory(v.data, c.values)
        assert not np.shares_memory(k.data, c[0].keys)

    def test_what_went_in_may_be_changed_afterwards(self):
        c, (k, v) = cache(), places(3)
        want = k.data.copy(), v.data.copy()
        out = c[0].append(k, v)
        k.data[:], v.data[:] = 0, 0
        for got, kept in zip(out, want):
            assert_close(got, kept)

    def test_later_places_leave_earlier_answers_as_they_were(self):
        c = cache(num_layers=1)
        out = c[0].append(*places(3))
        before = [x.data.copy() for x in out]
        c[0].append(*places(4, 1))
        for got, want in zip(out, before):
            assert_close(got, want)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_dtype_stays(self, dtype):
        out = cache(dtype=dtype)[0].append(*places(2, dtype=dtype))
        assert [x.dtype for x in out] == [dtype, dtype]

    def test_arrays_do_as_well_as_tensors(self):
        k, v = places(2)
        assert_close(cache()[0].append(k.data, v.data)[0], k.data)

    def test_what_comes_back_has_no_history(self):
        k = Tensor(places(2)[0].data, requires_grad=True) * 2
        out, _ = cache()[0].append(k, k)
        assert not out.requires_grad

    def test_no_new_memory_for_the_next_place(self):
        c = KVCache(1, 4096, 1, 4, 64)
        c[0].append(*places(4000, shape=(1, 4), width=64))
        one = places(1, shape=(1, 4), width=64)
        tracemalloc.start()
        c[0].append(*one)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10_000  # what the cache holds is 8 MB


class TestPosition:
    def test_it_starts_at_0(self):
        c = cache()
        assert c.position == 0
        assert [len(layer) for layer in c] == [0, 0]

    def test_it_moves_on_when_all_layers_have(self):
        c = cache()
        c[0].append(*places(3))
        assert (c.position, len(c[0]), len(c[1])) == (0, 3, 0)
        c[1].append(*places(3))
        assert (c.position, len(c[0]), len(c[1])) == (3, 3, 3)

    def test_it_is_a_sequence_of_its_layers(self):
        c = cache()
        assert len(c) == LAYERS
        assert list(c) == [c[0], c[1]]
        assert c[-1] is c[1]

    def test_what_is_printed_says_sizes_and_position(self):
        c = cache()
        read(c, 3)
        sizes = "batch_size=2, max_seq_len=8, num_layers=2, num_heads=3, head_dim=4, dtype=float32, position=3"
        assert repr(c) == f"KVCache({sizes})"


class TestTakingBack:
    @pytest.mark.parametrize("length", [0, 1, 4, 5])
    def test_the_next_place_follows_what_is_left(self, length):
        c = cache()
        read(c, 5)
        c.truncate(length)
        assert c.position == length
        for i, (k, v) in enumerate(read(c, 2, seed=10)):
            for got, old, new in zip((k, v), places(5, i), places(2, 10 + i)):
                assert_close(got, np.concatenate([old.data[:, :, :length], new.data], axis=2))

    def test_reset_forgets_all_and_keeps_the_memory(self):
        c = cache()
        read(c, 5)
        keys = c.keys
        c.reset()
        assert c.position == 0
        assert c.keys is keys
        for i, (k, _) in enumerate(read(c, ROOM, seed=10)):
            assert_close(k, places(ROOM, 10 + i)[0].data)

    def test_a_numpy_integer_is_a_length(self):
        c = cache()
        read(c, 5)
        c.truncate(np.int64(2))
        assert c.position == 2
        assert type(c.position) is int

    def test_a_pass_that_was_broken_off_can_be_taken_back(self):
        c = cache()
        read(c, 3)
        c[0].append(*places(2))
        c.truncate(c.position)
        assert [len(layer) for layer in c] == [3, 3]


class TestMemory:
    def test_bytes_by_hand(self):
        assert cache_bytes(1, 3, 2, 2, 4) == 2 * 3 * 2 * 2 * 4 * 4
        assert cache_bytes(1, 2048, 96, 96, 128) == 19_327_352_832

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_it_takes_what_the_formula_says_from_the_start(self, dtype):
        c = cache(dtype=dtype)
        want = 2 * N * ROOM * LAYERS * HEADS * D * np.dtype(dtype).itemsize
        assert c.nbytes == cache_bytes(N, ROOM, LAYERS, HEADS, D, dtype) == want
        for layer in c:
            layer.append(*places(5, dtype=dtype))
        assert c.nbytes == want

    def test_the_arrays_really_held_are_no_larger(self):
        tracemalloc.start()
        c = KVCache(2, 1024, 4, 4, 32)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert c.nbytes == 2 * 2 * 1024 * 4 * 4 * 32 * 4
        assert c.nbytes <= held < c.nbytes + 20_000

    def test_nothing_keeps_it_alive(self):
        gc.disable()
        try:
            c = cache()
            read(c, 2)
            gone = weakref.ref(c), weakref.ref(c.keys)
            del c
            assert [ref() for ref in gone] == [None, None]
        finally:
            gc.enable()

    def test_arrays_of_another_kind_are_asked_for_by_an_example(self):
        asked = []

        class Foreign:
            def __array_function__(self, function, types, args, kwargs):
                asked.append((function, *args, kwargs))
                return function(*args, **kwargs)

        cache(like=Foreign())
        assert asked == [(np.empty, (LAYERS, N, HEADS, ROOM, D), np.float32, {})] * 2


class TestForModel:
    def test_it_has_the_sizes_of_the_model(self):
        c = KVCache.for_model(GPT(11, 24, 3, 4, 16), 5)
        assert c.keys.shape == c.values.shape == (3, 5, 4, 16, 6)
        assert c.dtype == np.float32

    def test_a_model_that_has_lost_heads_gets_a_cache_of_those_left(self):
        pruned = structured_prune(GPT(11, 24, 3, 4, 16, rng=0), 0.5)
        c = KVCache.for_model(pruned)
        assert c.keys.shape == (3, 1, 2, 16, 6)
        with no_grad():
            whole = pruned([[1, 2, 3, 4]])
            parts = [pruned([[1, 2]], cache=c), pruned([[3, 4]], cache=c)]
        assert_close(np.concatenate([part.data for part in parts], axis=1), whole.data, rtol=1e-4, atol=1e-6)

    def test_one_text_and_all_places_unless_said_otherwise(self):
        model = GPT(11, 24, 3, 4, 16)
        assert (KVCache.for_model(model).batch_size, KVCache.for_model(model).max_seq_len) == (1, 16)
        assert KVCache.for_model(model, max_seq_len=7).max_seq_len == 7

    def test_it_has_the_dtype_of_the_model(self):
        model = GPT(11, 24, 3, 4, 16)
        for p in model.parameters():
            p.data = p.data.astype(np.float64)
        assert KVCache.for_model(model).dtype == np.float64


class TestAttention:
    @pytest.mark.parametrize("rotary", [None, RotaryEmbedding(4)])
    @pytest.mark.parametrize("cuts", [(1,) * 8, (4, 1, 3), (8,)])
    def test_a_layer_with_a_cache_says_what_it_says_without(self, rotary, cuts):
        layer, x = MultiHeadAttention(HEADS * D, HEADS, rotary=rotary, rng=0), randn(N, 8, HEADS * D, rng=1)
        c, stop, parts = cache(num_layers=1), 0, []
        with no_grad():
            want = layer(x, causal=True).data
            for T in cuts:
                start, stop = stop, stop + T
                parts.append(layer(x[:, start:stop], causal=True, cache=c[0]).data)
        assert_close(np.concatenate(parts, axis=1), want)

    def test_what_lies_beyond_the_position_means_nothing(self):
        layer, x = MultiHeadAttention(HEADS * D, HEADS, rng=0), randn(N, 8, HEADS * D, rng=1)
        c = cache(num_layers=1)
        c.keys[:], c.values[:] = np.nan, np.nan
        with no_grad():
            assert_close(layer(x[:, :5], causal=True, cache=c[0]), layer(x[:, :5], causal=True).data)


class TestErrors:
    """Who, what was needed, what came, what to do; and nothing has changed."""

    APPEND = {
        "batch": ((3, 3, 2, 4), r"KVCache, layer 0: needs keys \(2, 3, T, 4\), got \(3, 3, 2, 4\).*for_model\(model, "),
        "heads": ((2, 6, 2, 4), r"needs keys \(2, 3, T, 4\), got \(2, 6, 2, 4\)"),
        "head size": ((2, 3, 2, 8), r"needs keys \(2, 3, T, 4\), got \(2, 3, 2, 8\)"),
        "no batch": ((3, 2, 4), r"needs keys \(2, 3, T, 4\), got \(3, 2, 4\)"),
        "one axis": ((4,), r"needs keys \(2, 3, T, 4\), got \(4,\)"),
        "an axis too many": ((1, 2, 3, 2, 4), r"needs keys \(2, 3, T, 4\), got \(1, 2, 3, 2, 4\)"),
        "a broadcast": ((1, 3, 2, 4), r"got \(1, 3, 2, 4\)"),
        "too long": ((2, 3, 9, 4), r"layer 0: has room for 8 places, holds 0, got 9 more; make max_seq_len larger"),
    }

    def unchanged(self, c, call, error, match):
        before = c.keys.copy(), c.values.copy(), list(c.lengths)
        with pytest.raises(error, match=match):
            call()
        np.testing.assert_array_equal(c.keys, before[0])
        np.testing.assert_array_equal(c.values, before[1])
        assert c.lengths == before[2]

    @pytest.mark.parametrize(("shape", "match"), APPEND.values(), ids=APPEND)
    def test_a_shape_that_does_not_fit(self, shape, match):
        c, x = cache(), from_numpy(np.ones(shape, np.float32))
        self.unchanged(c, lambda: c[0].append(x, x), ValueError, match)

    @pytest.mark.parametrize("shape", [(2, 3, 3, 4), (2, 3, 1, 4), (2, 3, 2, 5), (3, 3, 2, 4)])
    def test_values_that_do_not_fit_their_keys(self, shape):
        c, k = cache(), places(2)[0]
        match = r"needs values \(2, 3, T, 4\), got \({}, {}, {}, {}\)".format(*shape)
        self.unchanged(c, lambda: c[0].append(k, from_numpy(np.ones(shape, np.float32))), ValueError, match)

    def test_another_dtype(self):
        c = cache()
        match = "layer 0: needs keys of float32, got float64; say dtype= when it is made"
        self.unchanged(c, lambda: c[0].append(*places(2, dtype=np.float64)), TypeError, match)

    def test_one_place_more_than_there_is_room_for(self):
        c = cache()
        read(c, ROOM)
        match = r"has room for 8 places, holds 8, got 1 more; make .* larger, or make room with truncate\(length\)"
        self.unchanged(c, lambda: c[0].append(*places(1)), ValueError, match)

    def test_the_last_place_can_be_used(self):
        c = cache()
        read(c, ROOM - 1)
        read(c, 1)
        assert c.position == ROOM

    def test_a_layer_that_was_left_behind(self):
        c = cache()
        read(c, 2)
        c[0].append(*places(3))
        match = r"layer 0: holds 5 places, layer 1 only 2; a pass was broken off \(then truncate\(2\) the cache\), or"
        self.unchanged(c, lambda: c[0].append(*places(1)), ValueError, match)

    @pytest.mark.parametrize("index", [2, -3])
    def test_a_layer_it_does_not_have(self, index):
        with pytest.raises(IndexError, match=rf"KVCache has 2 layers, got asked for layer {index}; does the model"):
            cache()[index]

    @pytest.mark.parametrize("length", [-1, 6, 8])
    def test_a_length_it_does_not_hold(self, length):
        c = cache()
        read(c, 5)
        match = f"truncate needs a length from 0 to the 5 places held, got {length}"
        self.unchanged(c, lambda: c.truncate(length), ValueError, match)

    @pytest.mark.parametrize("length", [1.0, "2", None, True])
    def test_a_length_that_is_no_integer(self, length):
        c = cache()
        read(c, 5)
        self.unchanged(c, lambda: c.truncate(length), TypeError, "truncate needs an integer length, got")

    @pytest.mark.parametrize("name", ["batch_size", "max_seq_len", "num_layers", "num_heads", "head_dim"])
    def test_sizes_must_be_positive_integers(self, name):
        with pytest.raises(ValueError, match=f"KVCache needs {name} of at least 1, got 0"):
            cache(**{name: 0})
        with pytest.raises(TypeError, match=f"KVCache needs an integer {name}, got 2.0"):
            cache(**{name: 2.0})

    @pytest.mark.parametrize("dtype", [int, bool, complex])
    def test_the_dtype_must_be_one_of_floats(self, dtype):
        with pytest.raises(TypeError, match="KVCache needs a dtype of floats, got"):
            cache(dtype=dtype)
