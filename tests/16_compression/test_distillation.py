"""What a student learns from a teacher: by hand, in the right direction, with gradients to the right model."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import gradcheck
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import Adam
from tinytorch.core.spatial import BatchNorm1d
from tinytorch.core.tensor import Tensor, randn
from tinytorch.optimization.compression import KnowledgeDistillation, distillation_loss

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(5, 3)), 3 * RNG.normal(size=(5, 3))
TARGETS = np.array([0, 2, 1, 1, 0])


def soften(logits, T):
    e = np.exp(logits / T - (logits / T).max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def divergence(p, q):
    return (p * np.log(p / q)).sum(axis=-1)


class TestLoss:
    def test_three_logits_by_hand(self):
        teacher, student = [[math.log(8), math.log(4), 0.0]], [[0.0, 0.0, 0.0]]
        p = np.array([8, 4, 1]) / 13  # at T = 1
        assert_close(distillation_loss(student, teacher, alpha=1, temperature=1).item(), (p * np.log(3 * p)).sum())
        p = np.array([8**0.5, 2, 1]) / (8**0.5 + 3)  # at T = 2
        assert_close(distillation_loss(student, teacher, alpha=1, temperature=2).item(), 4 * (p * np.log(3 * p)).sum())

    @pytest.mark.parametrize("T", [0.5, 1.0, 3.0, 8.0])
    @pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
    def test_the_formula(self, T, alpha):
        soft = divergence(soften(TEACHER, T), soften(STUDENT, T)).mean()
        hard = -np.log(soften(STUDENT, 1)[np.arange(5), TARGETS]).mean()
        got = distillation_loss(STUDENT, TEACHER, TARGETS, temperature=T, alpha=alpha)
        assert_close(got.item(), alpha * T**2 * soft + (1 - alpha) * hard, rtol=1e-4)

    def test_the_divergence_is_taken_under_the_teacher(self):
        sure, unsure = np.array([[20.0, 0.0]]), np.array([[0.0, 0.0]])
        assert_close(distillation_loss(unsure, sure, alpha=1, temperature=1).item(), math.log(2), rtol=1e-4)
        assert_close(distillation_loss(sure, unsure, alpha=1, temperature=1).item(), 10 - math.log(2), rtol=1e-4)

    def test_a_student_that_agrees_costs_nothing(self):
        assert abs(distillation_loss(TEACHER, TEACHER, alpha=1).item()) < 1e-5
        assert abs(distillation_loss(TEACHER + 7, TEACHER, alpha=1).item()) < 1e-4

    def test_alpha_0_is_cross_entropy(self):
        hard = cross_entropy(STUDENT, TARGETS).item()
        assert_close(distillation_loss(STUDENT, TEACHER, TARGETS, alpha=0).item(), hard)

    def test_temperature_does_not_touch_the_hard_part(self):
        losses = [distillation_loss(STUDENT, TEACHER, TARGETS, alpha=0, temperature=T).item() for T in (1, 9)]
        assert losses[0] == losses[1]

    def test_it_is_the_mean_over_rows_of_any_shape(self):
        a, b, t = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 4, 3)), RNG.integers(0, 3, (2, 4))
        flat = distillation_loss(a.reshape(8, 3), b.reshape(8, 3), t.reshape(8))
        assert_close(distillation_loss(a, b, t).item(), flat.item())

    def test_a_batch_twice_as_large_costs_the_same(self):
        twice = distillation_loss(np.tile(STUDENT, (2, 1)), np.tile(TEACHER, (2, 1)), np.tile(TARGETS, 2))
        assert_close(twice.item(), distillation_loss(STUDENT, TEACHER, TARGETS).item())

    def test_float32_throughout_and_safe_at_large_logits(self):
        loss = distillation_loss(Tensor([[1e4, -1e4]], requires_grad=True), Tensor([[-1e4, 1e4]]), [1])
        assert loss.dtype == np.float32
        assert np.isfinite(loss.item())

    def test_defaults(self):
        want = distillation_loss(STUDENT, TEACHER, TARGETS, temperature=3.0, alpha=0.7)
        assert distillation_loss(STUDENT, TEACHER, TARGETS).item() == want.item()


class TestGradient:
    @pytest.mark.parametrize("T", [1.0, 4.0])
    def test_in_closed_form(self, T):
        s = Tensor(STUDENT, requires_grad=True, dtype=np.float64)
        distillation_loss(s, Tensor(TEACHER, dtype=np.float64), alpha=1, temperature=T).backward()
        assert_close(s.grad, T * (soften(STUDENT, T) - soften(TEACHER, T)) / 5, rtol=1e-9, atol=1e-12)

    def test_finite_differences(self):
        teacher = Tensor(TEACHER, dtype=np.float64)
        assert gradcheck(lambda s: distillation_loss(s, teacher, TARGETS, 2.0, 0.6), (STUDENT,), rtol=1e-6)

    def test_at_high_temperature_it_keeps_its_size(self):
        """(Hinton et al. 2015, section 2.1): towards the difference of the centred logits, over N C."""
        s = Tensor(STUDENT, requires_grad=True, dtype=np.float64)
        distillation_loss(s, Tensor(TEACHER, dtype=np.float64), alpha=1, temperature=1e4).backward()
        centred = [a - a.mean(axis=1, keepdims=True) for a in (STUDENT, TEACHER)]
        assert_close(s.grad, (centred[0] - centred[1]) / 15, rtol=1e-2, atol=1e-3)

    def test_the_teacher_gets_none(self):
        s, t = Tensor(STUDENT, requires_grad=True), Tensor(TEACHER, requires_grad=True)
        distillation_loss(s, t, TARGETS).backward()
        assert t.grad is None
        assert np.abs(s.grad).max() > 0.01


def models():
    teacher = Sequential(Linear(4, 16, rng=0), BatchNorm1d(16), Dropout(0.5), ReLU(), Linear(16, 3, rng=1))
    return teacher, Sequential(Linear(4, 5, rng=2), ReLU(), Linear(5, 3, rng=3))


X = randn(6, 4, rng=4)
Y = Tensor([0, 1, 2, 0, 1, 2])


class TestKnowledgeDistillation:
    def test_it_is_the_loss_of_what_both_say(self):
        teacher, student = models()
        got = KnowledgeDistillation(teacher, student, temperature=2.0, alpha=0.4)(X, Y)
        want = distillation_loss(student(X), teacher.eval()(X), Y, 2.0, 0.4)
        assert_close(got.item(), want.item())

    def test_forward_and_call_are_one(self):
        distillation = KnowledgeDistillation(*models())
        assert distillation.forward(X, Y).item() == distillation(X, Y).item()

    def test_the_teacher_does_not_change_and_is_not_recorded(self):
        teacher, student = models()
        before = teacher.state_dict()
        distillation = KnowledgeDistillation(teacher, student)
        distillation(X, Y).backward()
        assert all((teacher.state_dict()[name] == array).all() for name, array in before.items())
        assert [p.grad for p in teacher.parameters()] == [None] * 6
        assert all(np.abs(p.grad).max() > 0 for p in student.parameters())

    def test_the_teacher_speaks_in_eval_mode_and_stays_in_its_own(self):
        teacher, student = models()
        teacher[2].eval()
        distillation = KnowledgeDistillation(teacher, student)
        said = distillation.teacher_logits(X)
        assert (said.data == distillation.teacher_logits(X).data).all()
        assert said.requires_grad is False
        assert [layer.training for layer in teacher if isinstance(layer, (Linear, BatchNorm1d, Dropout))] == [
            True,
            True,
            False,
            True,
        ]

    def test_the_mode_of_the_student_is_its_own(self):
        teacher, student = models()
        student = Sequential(student, Dropout(0.5))
        distillation = KnowledgeDistillation(teacher, student)
        assert distillation(X, Y).item() != distillation(X, Y).item()
        student.eval()
        assert distillation(X, Y).item() == distillation(X, Y).item()

    def test_its_parameters_are_the_students(self):
        teacher, student = models()
        got = KnowledgeDistillation(teacher, student).parameters()
        assert [id(p) for p in got] == [id(p) for p in student.parameters()]

    def test_what_the_teacher_said_may_be_kept(self):
        distillation = KnowledgeDistillation(*models(), temperature=2.0, alpha=0.4)
        said = distillation.teacher_logits(X)
        assert_close(distillation.loss(distillation.student(X), said, Y).item(), distillation(X, Y).item())

    def test_a_student_learns_to_say_what_the_teacher_says(self):
        teacher, student = models()
        distillation = KnowledgeDistillation(teacher.eval(), student, alpha=1.0)
        optimizer, losses = Adam(distillation.parameters(), lr=0.02), []
        for _ in range(150):
            optimizer.zero_grad()
            loss = distillation(X)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.01 * losses[0]
        assert (student(X).argmax(axis=1) == teacher(X).argmax(axis=1)).data.all()

    def test_a_function_may_teach(self):
        _, student = models()
        loss = KnowledgeDistillation(lambda x: np.ones((len(x), 3)), student, alpha=1.0)(X)
        assert_close(loss.item(), distillation_loss(student(X), np.ones((6, 3)), alpha=1.0).item())

    def test_it_prints_its_settings(self):
        assert repr(KnowledgeDistillation(*models(), temperature=2.0)) == (
            "KnowledgeDistillation(Sequential -> Sequential, temperature=2.0, alpha=0.7)"
        )


class TestRefusals:
    @pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan")])
    def test_temperatures(self, temperature):
        with pytest.raises(ValueError, match="temperature above 0"):
            distillation_loss(STUDENT, TEACHER, TARGETS, temperature=temperature)
        with pytest.raises(ValueError, match="temperature above 0"):
            KnowledgeDistillation(*models(), temperature=temperature)

    @pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
    def test_shares(self, alpha):
        with pytest.raises(ValueError, match="0 <= alpha <= 1"):
            distillation_loss(STUDENT, TEACHER, TARGETS, alpha=alpha)
        with pytest.raises(ValueError, match="0 <= alpha <= 1"):
            KnowledgeDistillation(*models(), alpha=alpha)

    @pytest.mark.parametrize("options", [{"temperature": "warm"}, {"alpha": None}])
    def test_what_is_no_number(self, options):
        with pytest.raises(TypeError, match="needs a number"):
            KnowledgeDistillation(*models(), **options)

    def test_logits_of_two_shapes(self):
        with pytest.raises(ValueError, match=r"student \(5, 3\) and teacher \(5, 4\)"):
            distillation_loss(STUDENT, np.ones((5, 4)), TARGETS)

    def test_no_targets_where_they_count(self):
        with pytest.raises(ValueError, match="needs targets for its share 0.3"):
            distillation_loss(STUDENT, TEACHER)

    def test_models_that_are_none(self):
        teacher, student = models()
        with pytest.raises(TypeError, match="as teacher"):
            KnowledgeDistillation(3, student)
        with pytest.raises(TypeError, match="as student"):
            KnowledgeDistillation(teacher, Linear)
        with pytest.raises(ValueError, match="same model"):
            KnowledgeDistillation(teacher, teacher)
        with pytest.raises(ValueError, match="no parameters to learn"):
            KnowledgeDistillation(teacher, Sequential(ReLU()))
