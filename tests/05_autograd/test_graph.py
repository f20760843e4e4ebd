"""graph(tensor): a drawing of how a tensor was computed."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from tinytorch.core.autograd import Graph, graph
from tinytorch.core.tensor import Tensor


@pytest.fixture
def loss():
    x, w = Tensor(np.ones((2, 3))), Tensor(np.ones((3, 1)), requires_grad=True)
    return (x @ w).mean()


def nodes(text):
    return dict(re.findall(r'^  (n\d+)\["(.+)"\]$', text, re.MULTILINE))


def arrows(text):
    names = nodes(text)
    found = re.findall(r'^  (n\d+) -->\|"(.+)"\| (n\d+)$', text, re.MULTILINE)
    return {(names[a], shape, names[b]) for a, shape, b in found}


class TestMermaid:
    def test_the_text_of_a_small_graph(self, loss):
        assert str(graph(loss)) == "\n".join(
            [
                "graph LR",
                '  n0["Mean"]',
                '  n1["Matmul"]',
                '  n2["data [2, 3]"]',
                '  n3["leaf [3, 1]"]',
                '  n1 -->|"[2, 1]"| n0',
                '  n2 -->|"[2, 3]"| n1',
                '  n3 -->|"[3, 1]"| n1',
            ]
        )

    def test_every_line_is_a_node_or_an_arrow(self, loss):
        text = str(graph((loss * loss).exp() + loss))
        lines = text.splitlines()
        assert lines[0] == "graph LR"
        assert all(re.fullmatch(r'  n\d+(\[".+"\]| -->\|".*"\| n\d+)', line) for line in lines[1:])

    def test_a_diamond_has_one_node_for_what_is_shared(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        h = x.exp()
        text = str(graph(h + h * 3.0))
        assert sorted(nodes(text).values()) == ["Add", "Exp", "Mul", "data []", "leaf [2]"]
        assert arrows(text) == {
            ("leaf [2]", "[2]", "Exp"),
            ("Exp", "[2]", "Mul"),
            ("Exp", "[2]", "Add"),
            ("Mul", "[2]", "Add"),
            ("data []", "[]", "Mul"),
        }

    def test_a_leaf_used_twice_has_two_arrows(self):
        x = Tensor(2.0, requires_grad=True)
        text = str(graph(x * x))
        assert sorted(nodes(text).values()) == ["Mul", "leaf []"]
        assert text.count("-->") == 2

    def test_operations_of_one_kind_are_different_nodes(self):
        x = Tensor(2.0, requires_grad=True)
        assert sorted(nodes(str(graph(x.neg().neg().neg()))).values()) == ["Neg", "Neg", "Neg", "leaf []"]

    @pytest.mark.parametrize(("requires_grad", "kind"), [(True, "leaf"), (False, "data")])
    def test_a_tensor_without_history_is_one_node(self, requires_grad, kind):
        x = Tensor([[1.0, 2.0]], requires_grad=requires_grad)
        assert str(graph(x)) == f'graph LR\n  n0["{kind} [1, 2]"]'

    def test_after_backward_only_the_root_is_left(self, loss):
        loss.backward()
        assert str(graph(loss)) == 'graph LR\n  n0["Mean"]'

    def test_forty_doublings_are_forty_one_nodes(self):
        y = Tensor(1.0, requires_grad=True)
        for _ in range(40):
            y = y + y
        text = str(graph(y))
        assert (len(nodes(text)), text.count("-->")) == (41, 80)

    def test_a_deep_graph(self):
        y = Tensor(1.0, requires_grad=True)
        for _ in range(5000):
            y = -y
        assert str(graph(y)).count("-->") == 5000

    def test_drawing_changes_nothing(self, loss):
        graph(loss)
        w = loss._grad_fn.inputs[0]._grad_fn.inputs[1]
        loss.backward()
        assert w.grad.shape == (3, 1)


class TestOtherForms:
    def test_dot(self, loss):
        assert graph(loss).dot == "\n".join(
            [
                "digraph {",
                "  rankdir=LR;",
                '  n0 [label="Mean", shape=box];',
                '  n1 [label="Matmul", shape=box];',
                '  n2 [label="data [2, 3]", shape=box];',
                '  n3 [label="leaf [3, 1]", shape=box];',
                '  n1 -> n0 [label="[2, 1]"];',
                '  n2 -> n1 [label="[2, 3]"];',
                '  n3 -> n1 [label="[3, 1]"];',
                "}",
            ]
        )

    def test_at_the_prompt_it_is_the_text(self, loss):
        drawing = graph(loss)
        assert isinstance(drawing, Graph)
        assert repr(drawing) == str(drawing)

    def test_a_notebook_gets_text_without_graphviz(self, loss, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda program: None)
        drawing = graph(loss)
        assert drawing._repr_mimebundle_() == {"text/plain": str(drawing), "text/vnd.mermaid": str(drawing)}

    def test_a_notebook_gets_a_picture_with_graphviz(self, loss, monkeypatch):
        class Done:
            stdout = "<svg/>"

        calls = []
        monkeypatch.setattr(shutil, "which", lambda program: "/bin/dot")
        monkeypatch.setattr(
            subprocess, "run", lambda command, **options: calls.append((command, options["input"])) or Done
        )
        drawing = graph(loss)
        assert drawing._repr_mimebundle_(include=None, exclude=None)["image/svg+xml"] == "<svg/>"
        assert calls == [(["dot", "-Tsvg"], drawing.dot)]
