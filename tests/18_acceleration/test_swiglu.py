"""swiglu: closed forms, gradients, the ends of the number line, and that it keeps nothing."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import silu
from tinytorch.core.autograd import Function, gradcheck, no_grad
from tinytorch.core.tensor import Tensor, from_numpy
from tinytorch.optimization import acceleration
from tinytorch.optimization.acceleration import SwiGLUBackward, swiglu


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def leaves(*arrays):
    return [Tensor(array, requires_grad=True, dtype=array.dtype) for array in arrays]


class TestForward:
    def test_by_hand(self):
        e = np.e
        assert_close(swiglu([0.0, 1.0, -1.0], [3.0, 3.0, 2.0]), [0, 3 * e / (1 + e), -2 / (1 + e)])

    @pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 3, 4), (0,), (3, 0)])
    def test_it_is_silu_times_x(self, shape):
        gate, x = normal(*shape), normal(*shape, seed=1)
        assert_close(swiglu(gate, x), (silu(from_numpy(np.array(gate))) * x).data)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_dtype_stays(self, dtype):
        gate, x = leaves(normal(3, dtype=dtype), normal(3, dtype=dtype))
        out = swiglu(gate, x)
        out.sum().backward()
        assert {out.dtype, gate.grad.dtype, x.grad.dtype} == {np.dtype(dtype)}

    def test_of_two_dtypes_the_wider(self):
        gate, x = leaves(normal(3), normal(3, dtype=np.float64))
        out = swiglu(gate, x)
        out.sum().backward()
        assert (out.dtype, gate.grad.dtype, x.grad.dtype) == (np.float64, np.float32, np.float64)

    def test_integers_become_floats(self):
        assert swiglu(Tensor([0, 1]), Tensor([3, 3])).dtype == np.float32

    def test_far_out(self):
        gate = np.array([-np.inf, -1e4, 1e4, 3e38, -3e38], np.float32)
        assert_close(swiglu(gate, np.full(5, 0.5, np.float32)), np.array([0, 0, 5e3, 1.5e38, 0], np.float32))

    def test_inputs_are_only_read(self):
        gate, x = normal(4), normal(4, seed=1)
        gate.flags.writeable = x.flags.writeable = False
        tensors = from_numpy(gate), from_numpy(x)
        for tensor in tensors:
            tensor.requires_grad = True
        swiglu(*tensors).sum().backward()
        assert tensors[0].grad.shape == (4,)

    def test_transposed_and_strided_inputs(self):
        gate, x = normal(4, 6).T, normal(6, 8)[:, ::2]
        assert_close(swiglu(from_numpy(gate), from_numpy(x)), swiglu(gate.copy(), x.copy()).data)

    @pytest.mark.parametrize(("a", "b"), [((2, 3), (3,)), ((2, 3), (1, 3)), ((2,), (3,)), ((), (1,))])
    def test_nothing_is_broadcast(self, a, b):
        with pytest.raises(ValueError, match="swiglu needs a gate for every number of x, got gate"):
            swiglu(np.ones(a, np.float32), np.ones(b, np.float32))

    @pytest.mark.parametrize("wrong", [0, -1])
    def test_fewer_threads_than_1_are_refused(self, wrong):
        with pytest.raises(ValueError, match=f"needs threads of at least 1, got {wrong}"):
            swiglu([1.0], [1.0], wrong)


class TestBackward:
    def test_by_hand(self):
        gate, x = leaves(np.zeros(1), np.full(1, 3.0))
        swiglu(gate, x).backward(np.ones(1))
        assert_close(gate.grad, np.array([1.5]))
        assert_close(x.grad, np.array([0.0]))

    @pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 2)])
    def test_gradcheck(self, shape):
        inputs = [2 * normal(*shape, dtype=np.float64), normal(*shape, seed=1, dtype=np.float64)]
        assert gradcheck(swiglu, inputs)

    def test_gradcheck_of_one_tensor_in_both_places(self):
        assert gradcheck(lambda x: swiglu(x, x), normal(5, dtype=np.float64))

    def test_a_frozen_input_gets_none(self):
        gate, x = normal(3), Tensor(normal(3, seed=1), requires_grad=True)
        swiglu(gate, x).sum().backward()
        assert_close(x.grad, silu(from_numpy(gate)).data)

    def test_far_out(self):
        gate, x = leaves(np.array([-np.inf, -1e4, 1e4], np.float32), np.ones(3, np.float32))
        swiglu(gate, x).sum().backward()
        assert_close(gate.grad, np.array([0, 0, 1], np.float32))
        assert_close(x.grad, np.array([0, 0, 1e4], np.float32))

    def test_a_strided_gradient(self):
        gate, x = leaves(normal(3, 4), normal(3, 4, seed=1))
        swiglu(gate, x).T.backward(np.ones((4, 3), np.float32))
        again = leaves(normal(3, 4), normal(3, 4, seed=1))
        swiglu(*again).backward(np.ones((3, 4), np.float32))
        assert_close(gate.grad, again[0].grad)
        assert_close(x.grad, again[1].grad)

    def test_the_gradient_that_comes_in_is_only_read(self):
        gate, x = leaves(normal(4), normal(4, seed=1))
        grad = np.ones(4, np.float32)
        out = swiglu(gate, x)
        out._grad_fn.backward(grad)
        assert_close(grad, np.ones(4, np.float32))

    def test_results_are_not_scratch_memory(self):
        gate, x = leaves(normal(4), normal(4, seed=1))
        first = swiglu(gate, x)
        before = first.data.copy()
        grads = swiglu(gate, x)._grad_fn.backward(np.ones(4, np.float32))
        kept = [grad.copy() for grad in grads]
        swiglu(x, gate).sum().backward()
        assert_close(first, before)
        for grad, want in zip(grads, kept):
            assert_close(grad, want)


class TestOneOperation:
    def test_it_has_its_rule(self):
        assert type(swiglu(*leaves(normal(2), normal(2)))._grad_fn) is SwiGLUBackward
        assert Function.rules["swiglu"] is SwiGLUBackward

    def test_it_keeps_no_array_but_its_inputs(self):
        node = swiglu(*leaves(normal(2), normal(2)), threads=3)._grad_fn
        assert node.saved == {"threads": 3}

    def test_nothing_is_recorded_under_no_grad(self):
        with no_grad():
            assert not swiglu(*leaves(normal(2), normal(2))).requires_grad

    @pytest.mark.parametrize("threads", [2, 5])
    def test_threads_change_no_bit(self, threads):
        found = []
        for count in (1, threads):
            gate, x = leaves(normal(4, 70001), normal(4, 70001, seed=1))
            out = swiglu(gate, x, count)
            (out * out).sum().backward()
            found.append((out.data, gate.grad, x.grad))
        for one, many in zip(*found):
            np.testing.assert_array_equal(one, many)

    def test_every_block_of_a_large_array_has_its_turn(self):
        gate, x = leaves(*(np.tile(normal(7, seed=seed), 60000) for seed in range(2)))
        out = swiglu(gate, x)
        out.sum().backward()
        for array in (out.data, gate.grad, x.grad):
            assert np.ptp(array.reshape(-1, 7), axis=0).max() < 1e-6

    @pytest.mark.parametrize("threads", [1, 3])
    def test_the_way_back_uses_as_many_threads_as_the_way_there(self, threads, monkeypatch):
        asked = []
        monkeypatch.setattr(acceleration, "parallel", lambda f, parts, threads: asked.append(threads))
        swiglu(*leaves(normal(2), normal(2)), threads).sum().backward()
        assert asked == [threads, threads]

    def test_the_scratch_memory_is_no_larger_than_a_block(self):
        acceleration._room.clear()
        gate, x = leaves(normal(300, 500), normal(300, 500, seed=1))
        swiglu(gate, x, 1).sum().backward()
        assert acceleration._room.nbytes == 2 * 4 * acceleration.BLOCK
