"""Module: what it finds, names, switches, prints."""

import copy

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU, Tanh
from tinytorch.core.layers import Dropout, Identity, Linear, Module, Sequential, walk
from tinytorch.core.tensor import Tensor, ones, randn


def names(module):
    return [name for name, _ in module.named_parameters()]


class Plain:
    """Somebody else's class: nothing but parameters()."""

    def __init__(self):
        self.w = Tensor([1.0, 2.0], requires_grad=True)
        self.drop = Dropout(0.5)

    def parameters(self):
        return [self.w]


class Everywhere(Module):
    def __init__(self):
        self.own = Tensor([1.0], requires_grad=True)
        self.listed = [Linear(1, 1), Tensor([2.0], requires_grad=True)]
        self.pair = (Linear(1, 1, bias=False), [Linear(1, 1, bias=False)])
        self.named = {"a": Linear(1, 1, bias=False), "b": {"c": Tensor([3.0], requires_grad=True)}}
        self.plain = Plain()


class TestWhatIsAParameter:
    def test_everything_is_found_in_the_order_in_which_it_was_set(self):
        assert names(Everywhere()) == [
            "own",
            "listed.0.weight",
            "listed.0.bias",
            "listed.1",
            "pair.0.weight",
            "pair.1.0.weight",
            "named.a.weight",
            "named.b.c",
            "plain.w",
        ]

    def test_parameters_are_the_tensors_themselves(self):
        module = Everywhere()
        assert [id(p) for p in module.parameters()] == [id(p) for _, p in module.named_parameters()]
        assert module.parameters()[0] is module.own

    def test_a_tensor_that_never_required_a_gradient_is_none(self):
        module = Everywhere()
        module.table = randn(3)
        module.tokens = Tensor([1, 2, 3])
        module.array = np.ones(3)
        assert "table" not in names(module)
        assert len(names(module)) == 9

    def test_a_frozen_one_still_is(self):
        module = Everywhere().requires_grad_(False)
        assert len(module.parameters()) == 9
        assert not any(p.requires_grad for p in module.parameters())
        assert all(p.requires_grad for p in module.requires_grad_().parameters())

    def test_a_shared_tensor_counts_once_under_its_first_name(self):
        module = Everywhere()
        module.tied = module.listed[0].weight
        module.again = module.listed[0]
        assert names(module) == names(Everywhere())
        assert module.num_parameters() == 10

    def test_a_layer_class_is_not_a_layer(self):
        module = Identity()
        module.kind = Linear
        assert module.children() == []

    def test_an_object_without_attributes_is_asked_for_its_parameters(self):
        class Slotted:
            __slots__ = ("w",)

            def __init__(self):
                self.w = Tensor([1.0], requires_grad=True)

            def parameters(self):
                return [self.w]

        module = Identity()
        module.inner = Slotted()
        assert names(module) == ["inner.0"]

    def test_a_parameter_only_its_owner_knows_of_is_found_through_parameters(self):
        hidden = Tensor([1.0], requires_grad=True)

        class Hiding:
            def parameters(self):
                return [hidden]

        module = Identity()
        module.inner = Hiding()
        assert module.parameters()[0] is hidden

    def test_a_module_without_init_has_none(self):
        assert Identity().parameters() == []
        assert Identity().state_dict() == {}


class TestCircles:
    def test_a_child_that_knows_its_parent(self):
        parent = Identity()
        parent.child = Linear(2, 2)
        parent.child.parent = parent
        parent.me = parent
        assert names(parent) == ["child.weight", "child.bias"]
        assert len(parent.modules()) == 2
        assert "Linear" in repr(parent)
        assert parent.eval().child.training is False

    def test_a_list_that_holds_itself(self):
        module = Identity()
        module.ring = [Linear(1, 1, bias=False)]
        module.ring.append(module.ring)
        assert names(module) == ["ring.0.weight"]

    def test_five_thousand_layers_inside_each_other(self):
        module = inner = Identity()
        for _ in range(5000):
            inner.inner = Identity()
            inner = inner.inner
        inner.w = Tensor([1.0], requires_grad=True)
        assert len(module.parameters()) == 1


class TestWalk:
    def test_names_are_dotted_and_the_root_has_none(self):
        module = Identity()
        module.layers = [Linear(2, 3), ReLU()]
        found = dict(walk(module))
        assert found[""] is module
        assert found["layers.0.weight"] is module.layers[0].weight
        assert list(found)[:3] == ["", "layers", "layers.0"]
        assert list(found)[-1] == "layers.1"

    def test_not_deep_stops_at_the_layers_inside(self):
        module = Identity()
        module.layers = [Sequential(Linear(2, 3))]
        assert [name for name, _ in walk(module, deep=False)] == ["", "layers", "layers.0"]


class TestChildrenAndModules:
    def test_children_are_one_level_down_and_modules_all(self):
        inner = Sequential(Tanh(), Linear(1, 1))
        module = Sequential(Linear(1, 1), inner)
        assert module.children() == [module[0], inner]
        assert [name for name, _ in module.named_children()] == ["0", "1"]
        assert module.modules() == [module, module[0], inner, inner[0], inner[1]]
        assert [name for name, _ in module.named_modules()] == ["", "0", "1", "1.0", "1.1"]

    def test_num_parameters_counts_numbers(self):
        assert Sequential(Linear(784, 512), ReLU(), Linear(512, 10)).num_parameters() == 784 * 512 + 512 + 512 * 10 + 10


class TestTrainAndEval:
    def test_training_is_on_at_first(self):
        assert Linear(1, 1).training
        assert Everywhere().training

    def test_every_module_is_switched_also_inside_other_peoples_classes(self):
        module = Everywhere()
        assert module.eval() is module
        assert not module.training
        assert not module.listed[0].training
        assert not module.plain.drop.training
        assert module.train() is module
        assert module.named["a"].training
        assert module.plain.drop.training

    def test_train_false_is_eval(self):
        assert Linear(1, 1).train(False).training is False

    def test_other_peoples_objects_are_not_written_to(self):
        module = Everywhere().eval()
        assert "training" not in vars(module.plain)
        relu = ReLU()
        Sequential(relu).eval()
        assert repr(relu) == "ReLU()"

    def test_the_switch_is_no_parameter_and_no_state(self):
        assert list(Linear(1, 1).eval().state_dict()) == ["weight", "bias"]


class TestCalling:
    def test_calling_a_module_calls_forward_with_everything(self):
        class Scale(Module):
            def forward(self, x, factor, offset=0.0):
                return x * factor + offset

        assert Scale()(Tensor([2.0]), 3.0, offset=1.0).tolist() == [7.0]

    def test_a_module_without_forward_says_who(self):
        class Empty(Module):
            pass

        with pytest.raises(NotImplementedError, match="Empty does not say what forward computes"):
            Empty()(ones(1))


class TestHooks:
    def test_a_hook_sees_module_inputs_and_output(self):
        layer, seen = Linear(2, 3), []
        layer.register_forward_hook(lambda *args: seen.append(args))
        x = randn(4, 2)
        out = layer(x)
        assert len(seen) == 1
        assert seen[0][0] is layer
        assert seen[0][1][0] is x
        assert seen[0][2] is out

    def test_what_a_hook_returns_replaces_the_output(self):
        layer = Identity()
        layer.register_forward_hook(lambda module, inputs, out: out * 2)
        layer.register_forward_hook(lambda module, inputs, out: out + 1)
        layer.register_forward_hook(lambda module, inputs, out: None)
        assert layer(Tensor([3.0])).tolist() == [7.0]

    def test_remove_takes_away_exactly_one_and_may_be_repeated(self):
        layer, seen = Identity(), []
        handles = [layer.register_forward_hook(lambda m, i, o, n=n: seen.append(n)) for n in range(3)]
        handles[1].remove()
        handles[1].remove()
        layer(ones(1))
        assert seen == [0, 2]

    def test_a_hook_may_remove_itself(self):
        layer, seen = Identity(), []

        def once(module, inputs, out):
            seen.append(1)
            handle.remove()

        handle = layer.register_forward_hook(once)
        layer(ones(1))
        layer(ones(1))
        assert seen == [1]

    def test_hooks_stay_when_the_handle_is_forgotten_and_belong_to_one_module(self):
        first, second, seen = Identity(), Identity(), []
        for n in range(20):
            first.register_forward_hook(lambda m, i, o, n=n: seen.append(n))
        first(ones(1))
        second(ones(1))
        assert seen == list(range(20))

    def test_a_module_with_a_hook_has_the_same_state(self):
        layer = Linear(1, 1)
        layer.register_forward_hook(print)
        assert list(layer.state_dict()) == ["weight", "bias"]
        assert repr(layer) == "Linear(in_features=1, out_features=1, bias=True)"


class TestPrinting:
    def test_a_tree(self):
        model = Sequential(Linear(4, 8), ReLU(), Sequential(Dropout(0.1), Linear(8, 2, bias=False)))
        assert repr(model) == (
            "Sequential(\n"
            "  (0): Linear(in_features=4, out_features=8, bias=True)\n"
            "  (1): ReLU()\n"
            "  (2): Sequential(\n"
            "    (0): Dropout(p=0.1)\n"
            "    (1): Linear(in_features=8, out_features=2, bias=False)\n"
            "  )\n"
            ")"
        )

    def test_layers_in_lists_are_shown_with_their_place(self):
        module = Identity()
        module.blocks = [Identity()]
        assert repr(module) == "Identity(\n  (blocks.0): Identity()\n)"

    def test_settings_and_layers_together(self):
        class Block(Module):
            def __init__(self):
                self.inner = Identity()

            def extra_repr(self):
                return "size=3"

        assert repr(Block()) == "Block(\n  size=3\n  (inner): Identity()\n)"


class TestCopying:
    def test_a_deep_copy_shares_nothing_but_keeps_what_is_tied(self):
        module = Sequential(Linear(2, 2), Linear(2, 2))
        module[1].weight = module[0].weight
        other = copy.deepcopy(module)
        assert other[1].weight is other[0].weight
        other[0].weight.data = np.zeros((2, 2), np.float32)
        assert module[0].weight.data.any()
        assert other.num_parameters() == module.num_parameters() == 8
        assert_close(other[0].bias, module[0].bias.data)
