"""graph(tensor): a drawing of how a tensor was computed."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tinytorch.core.autograd import Graph, graph
from tinytorch.core.tensor import Tensor, cat

SVG = "{http://www.w3.org/2000/svg}"


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


def boxes(svg):
    """(text, x, y, width, height) of every node of the picture."""
    texts = [text for text in svg.iter(f"{SVG}text") if text.get("text-anchor") == "middle"]
    sizes = [[float(box.get(side)) for side in ("x", "y", "width", "height")] for box in svg.iter(f"{SVG}rect")]
    return [(text.text, *size) for text, size in zip(texts, sizes, strict=True)]


def lines(svg):
    """(start, end, whether it has a head) of every piece of an arrow."""
    for path in svg.iter(f"{SVG}path"):
        x, y, *_, end_x, end_y = map(float, re.findall(r"-?[\d.]+", path.get("d").split("m")[0]))
        yield (x, y), (end_x, end_y), "m" in path.get("d")


def inside(box, x, y):
    return box[1] <= x <= box[1] + box[3] and y in (box[2], box[2] + box[4])


@pytest.fixture(params=["small", "branches", "names", "skips", "twice", "alone", "deep"])
def drawing(request, loss):
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    h = x
    for _ in range(4):
        h = h.abs() * 2.0 + h
    deep = x
    for _ in range(30):
        deep = -deep
    return {
        "small": graph(loss),
        "branches": graph(cat([x[i : i + 1] * x for i in range(3)]).mean()),
        "names": graph(x.sum(), [("a < b & c", x)]),
        "skips": graph((h / h.sum() - x).mean()),
        "twice": graph(x * x),
        "alone": graph(x),
        "deep": graph(deep + x),
    }[request.param]


class TestPicture:
    def test_every_node_is_drawn_once(self, drawing):
        drawn = sorted(text for text, *_ in boxes(ElementTree.fromstring(drawing.svg)))
        assert drawn == sorted(nodes(str(drawing)).values())

    def test_no_two_nodes_overlap_and_none_leaves_the_picture(self, drawing):
        svg = ElementTree.fromstring(drawing.svg)
        _, _, wide, high = map(float, svg.get("viewBox").split())
        found = boxes(svg)
        for text, x, y, w, h in found:
            assert x >= 0, text
            assert y >= 0, text
            assert (x + w <= wide, y + h <= high) == (True, True), text
        for (_, x, y, w, h), (_, x2, y2, w2, h2) in itertools.combinations(found, 2):
            assert x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y

    def test_every_arrow_leads_down_from_a_node_to_its_user(self, drawing):
        svg = ElementTree.fromstring(drawing.svg)
        found, pieces = boxes(svg), list(lines(svg))
        reached = []
        for (x, y), end, head in pieces:
            assert y < end[1]
            assert any(inside(box, x, y) for box in found) or (x, y) in [end for _, end, _ in pieces]
            if head:
                assert end[1] in [box[2] for box in found if inside(box, *end)]
                reached.append(end)
            else:
                assert end in [start for start, _, _ in pieces]
        assert len(reached) == len(set(reached)) == str(drawing).count("-->")

    def test_lines_pass_no_node(self, drawing):
        svg = ElementTree.fromstring(drawing.svg)
        for (x, y), (_, end), _ in lines(svg):
            for text, left, top, w, h in boxes(svg):
                if y < top + h and top < end:
                    assert not left < x < left + w, text  # it goes straight down before it turns

    def test_the_arrows_of_a_tree_do_not_cross(self):
        a, b, c, d = (Tensor([1.0], requires_grad=True) for _ in range(4))
        svg = ElementTree.fromstring(graph(((a + b.exp()) * (c - d.exp())).sum()).svg)
        for one, other in itertools.combinations(lines(svg), 2):
            (x, y), (end, _), _ = min(one, other)
            (x2, y2), (end2, _), _ = max(one, other)
            assert y != y2 or (x < x2 and end < end2)

    def test_the_result_is_below_and_a_weight_just_above_its_use(self):
        v, w = (Tensor([3.0], requires_grad=True) for _ in range(2))
        svg = ElementTree.fromstring(graph((v.neg().exp() * w).sum(), [("v", v), ("w", w)]).svg)
        height = {text: y for text, _, y, _, _ in boxes(svg)}
        assert height["v [1]"] < height["Neg"] < height["Exp"] < height["Mul"] < height["Sum"]
        assert height["w [1]"] == height["Exp"]

    def test_shapes_stand_beside_arrows_once_per_node(self, loss):
        svg = ElementTree.fromstring(graph(loss).svg)
        beside = [text.text for text in svg.iter(f"{SVG}text") if text.get("text-anchor") != "middle" and text.text]
        assert sorted(beside) == ["[2, 1]", "[2, 3]", "[3, 1]"]

    def test_leaves_data_and_operations_look_different(self, loss):
        svg = ElementTree.fromstring(graph(loss).svg)
        looks = {
            text[0]: (box.get("rx"), box.get("fill"), box.get("stroke-dasharray"))
            for text, box in zip(boxes(svg), svg.iter(f"{SVG}rect"))
        }
        assert looks["Mean"] == looks["Matmul"]
        assert len(set(looks.values())) == 3

    def test_leaves_can_be_called_by_name(self, loss):
        w = loss._grad_fn.inputs[0]._grad_fn.inputs[1]
        assert '["head.weight [3, 1]"]' in str(graph(loss, [("head.weight", w)]))


class TestNotebook:
    def test_at_the_prompt_it_is_the_text(self, loss):
        drawing = graph(loss)
        assert isinstance(drawing, Graph)
        assert repr(drawing) == str(drawing)

    def test_it_gets_the_picture_and_the_text(self, loss):
        drawing = graph(loss)
        bundle = drawing._repr_mimebundle_(include=None, exclude=None)
        assert bundle == {"text/plain": str(drawing), "image/svg+xml": drawing.svg}

    def test_of_a_large_graph_it_gets_the_text_alone(self):
        y = Tensor(1.0, requires_grad=True)
        for _ in range(Graph.largest):
            y = -y
        assert list(graph(y)._repr_mimebundle_()) == ["text/plain"]
