# Generated from modules/07_training/07_training.py by `tito export`. To change this file, edit the lesson and export again.
"""Training: schedules for the learning rate, clipping, and the loop around forward, backward and step.

A schedule is a function from epoch to learning rate. `Trainer` runs the loop: it accumulates gradients exactly, refuses
to step on a loss or gradient that is no number, evaluates, keeps a history, reports through callbacks, and can be
saved and taken up again so that the weights come out the same to the last bit.
"""

import math
import os
import sys
import time
from contextlib import contextmanager

import numpy as np

from tinytorch.core.autograd import no_grad
from tinytorch.core.checkpoint import CheckpointError, load, save
from tinytorch.core.layers import Module, walk
from tinytorch.core.losses import CrossEntropyLoss, NLLLoss
from tinytorch.core.optimizers import Optimizer, pieces
from tinytorch.core.tensor import Tensor


def _at_least(who, name, value, least, strictly=False):
    """`value` as a float, checked."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{who} needs a number as {name}, got {value!r}")
    if not math.isfinite(value) or value < least or (strictly and value == least):
        raise ValueError(f"{who} needs {name} {'>' if strictly else '>='} {least}, got {value}")
    return float(value)


def _share(epoch, warmup):
    """How much of the full rate there is at `epoch`: 1 / (warmup + 1), 2 / (warmup + 1), ..., 1, 1, ..."""
    return min(1.0, (epoch + 1) / (warmup + 1))


class Schedule:
    """A learning rate for every epoch: schedule(epoch), counted from 0, fractions allowed. Subclasses write `rate`."""

    def __call__(self, epoch):
        return float(self.rate(_at_least(type(self).__name__, "epoch", epoch, 0)))

    def rate(self, epoch):
        raise NotImplementedError(f"{type(self).__name__} does not say what the rate is")

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"


class StepSchedule(Schedule):
    """`max_lr`, multiplied by `gamma` after every `step_size` epochs."""

    def __init__(self, max_lr: float, step_size: float, gamma: float = 0.1):
        self.max_lr = _at_least("StepSchedule", "max_lr", max_lr, 0)
        self.step_size = _at_least("StepSchedule", "step_size", step_size, 0, strictly=True)
        self.gamma = _at_least("StepSchedule", "gamma", gamma, 0, strictly=True)

    def rate(self, epoch):
        return self.max_lr * self.gamma ** (epoch // self.step_size)


class LinearWarmup(Schedule):
    """Rise linearly for `warmup` epochs to where `schedule` is then, a schedule or a constant rate, and follow it."""

    def __init__(self, schedule, warmup: float):
        self.schedule = schedule if callable(schedule) else _at_least("LinearWarmup", "its rate", schedule, 0)
        self.warmup = _at_least("LinearWarmup", "warmup", warmup, 0)

    def rate(self, epoch):
        after = self.schedule if callable(self.schedule) else lambda epoch: self.schedule
        return _share(epoch, self.warmup) * after(max(epoch, self.warmup))


class CosineSchedule(Schedule):
    """From `max_lr` to `min_lr` along half a cosine, after `warmup` epochs of linear rise (Loshchilov & Hutter 2017).

    total_epochs  where `min_lr` is reached, the warm-up included; it stays there
    """

    def __init__(self, max_lr: float, min_lr: float, total_epochs: float, warmup: float = 0):
        who = "CosineSchedule"
        self.max_lr = _at_least(who, "max_lr", max_lr, 0)
        self.min_lr = _at_least(who, "min_lr", min_lr, 0)
        self.total_epochs = _at_least(who, "total_epochs", total_epochs, 0, strictly=True)
        self.warmup = _at_least(who, "warmup", warmup, 0)
        if self.min_lr > self.max_lr:
            raise ValueError(f"{who} falls from max_lr to min_lr, got max_lr={max_lr} and min_lr={min_lr}")
        if self.warmup >= self.total_epochs:
            raise ValueError(f"{who} needs warmup < total_epochs, got {warmup} of {total_epochs} epochs")

    def rate(self, epoch):
        done = min(1.0, max(0.0, epoch - self.warmup) / (self.total_epochs - self.warmup))
        fallen = self.min_lr + (self.max_lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2
        return _share(epoch, self.warmup) * fallen


def gradient_norm(parameters) -> float:
    """The length of all gradients together: the root of the sum of their squares. NaN or inf if one holds such."""
    parameters = [p for p in parameters if p.grad is not None]
    total = 0.0
    for p in parameters:
        for (piece,) in pieces(p.grad):
            total += float(np.vdot(piece, piece))
    if 1e-30 < total < math.inf or math.isnan(total) or not parameters:
        return math.sqrt(total)
    largest = max(float(np.abs(p.grad).max(initial=0)) for p in parameters)  # the squares left the range of the dtype
    if largest in (0.0, math.inf):
        return largest
    scaled = (np.asarray(p.grad, np.float64) / largest for p in parameters)
    return largest * math.sqrt(sum(float(np.vdot(grad, grad)) for grad in scaled))


def clip_grad_norm(parameters, max_norm: float) -> float:
    """Scale all gradients by one factor so that their norm is at most `max_norm`. Returns the norm before.

    parameters  tensors, or (name, tensor) pairs, so that errors can name them
    max_norm    > 0; math.inf only measures

    Raises ValueError if a gradient holds NaN or infinity, and names it; then no gradient has changed.
    """
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    named = [p if isinstance(p, tuple) else (f"parameter {i}", p) for i, p in enumerate(parameters)]
    for name, p in named:
        if not isinstance(p, Tensor):
            raise TypeError(f"clip_grad_norm needs tensors, as model.parameters() gives, but {name} is {p!r}")
    if max_norm != math.inf:
        _at_least("clip_grad_norm", "max_norm", max_norm, 0, strictly=True)
    norm = gradient_norm(p for _, p in named)
    if not math.isfinite(norm):
        bad = [f"{name} {p.shape}" for name, p in named if p.grad is not None and not np.isfinite(p.grad).all()]
        raise ValueError(f"the norm of the gradients is {norm}; NaN or infinity is in the gradient of {', '.join(bad)}")
    if norm > max_norm:
        for _, p in named:
            if p.grad is not None:
                p.grad = np.asarray(p.grad * (max_norm / norm))
    return norm


def grouped(items, size: int):
    """Lists of `size` items each, in order; the last one holds what is left."""
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def mean_count(loss_fn, targets) -> float:
    """How many terms the mean loss of a batch is taken over, so that means can be combined exactly.

    That is one per target. A CrossEntropyLoss or NLLLoss leaves out the class numbers it ignores, and counts the others
    with the weights of their classes; of a plain function with such habits nothing can be known.
    """
    targets = targets.data
    if targets.dtype.kind not in "iu" or not isinstance(loss_fn, (CrossEntropyLoss, NLLLoss)):
        return float(targets.size)
    if loss_fn.ignore_index is not None:
        targets = targets[targets != loss_fn.ignore_index]
    return float(targets.size if loss_fn.weight is None else np.asarray(loss_fn.weight, np.float64)[targets].sum())


class Running:
    """Mean loss and accuracy over batches of different sizes."""

    def __init__(self):
        self.total, self.count, self.right, self.labelled = 0.0, 0.0, 0, 0

    def add(self, loss, count, right=0, labelled=0):
        """A batch whose mean loss over `count` terms is `loss`, with `right` of `labelled` classes right."""
        self.total += loss * count
        self.count += count
        self.right += right
        self.labelled += labelled

    @property
    def loss(self):
        return self.total / self.count if self.count else math.nan

    @property
    def accuracy(self):
        return self.right / self.labelled if self.labelled else None


def hits(outputs, targets, ignore_index=None):
    """(how many classes are right, of how many); (0, 0) where the targets are no class numbers.

    outputs (..., C)   a score for each class
    targets (...)      integers
    """
    outputs, targets = outputs.data, targets.data
    if targets.dtype.kind not in "iu" or targets.shape != outputs.shape[:-1]:
        return 0, 0
    right = outputs.argmax(axis=-1) == targets
    counted = np.ones_like(right) if ignore_index is None else targets != ignore_index
    return int((right & counted).sum()), int(counted.sum())


def _batch(batch, number):
    """(inputs, targets) as tensors, checked."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise TypeError(f"Trainer needs batches (inputs, targets), but batch {number} is {what}")
    inputs, targets = (part if isinstance(part, Tensor) else Tensor(part) for part in batch)
    if inputs.size == 0 or targets.size == 0:
        raise ValueError(f"Trainer: batch {number} is empty, inputs {inputs.shape} and targets {targets.shape}")
    return inputs, targets


def _batches(loader):
    """The batches of one epoch, checked; at least one."""
    number = -1
    for number, batch in enumerate(loader):
        yield _batch(batch, number)
    if number < 0:
        raise ValueError(
            "Trainer got no batches from the loader. A generator can be gone through only once: "
            "pass a list of batches, or a DataLoader"
        )


def _set_mode(model, training):
    """Put the model and all its layers into train or eval mode."""
    if isinstance(model, Module):
        model.train(training)
        return
    for _, layer in walk(model):  # a class of the user's own, with layers inside
        if isinstance(layer, Module):
            layer.training = training


@contextmanager
def _evaluating(model):
    """Eval mode inside, and every layer's own mode again afterwards."""
    modes = [(layer, layer.training) for _, layer in walk(model) if isinstance(layer, Module)]
    _set_mode(model, False)
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def _state_of(thing):
    """`thing.state_dict()` if it has one, as loaders and schedules may."""
    return thing.state_dict() if callable(getattr(thing, "state_dict", None)) else None


class Callback:
    """Something that wants to hear of training. Override what is of interest."""

    def fit_begin(self, trainer, epochs, batches):
        """`fit` begins: up to `epochs` epochs, each of `batches` batches (None if the loader does not say)."""

    def step_end(self, trainer, batch, loss):
        """A step has been made after `batch` batches of this epoch; `loss` is the mean over the epoch so far."""

    def epoch_end(self, trainer):
        """An epoch is in `trainer.history`, with its validation."""

    def fit_end(self, trainer):
        """`fit` is over, be it by an error."""


class _AfterEpoch(Callback):
    """A plain function as a callback."""

    def __init__(self, function):
        self.function = function

    def epoch_end(self, trainer):
        self.function(trainer)


class Checkpoint(Callback):
    """Save the trainer to `path` after every `every` epochs."""

    def __init__(self, path, every: int = 1):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"Checkpoint needs every >= 1 as a whole number, got {every!r}")
        self.path, self.every = path, every

    def epoch_end(self, trainer):
        if trainer.epoch % self.every == 0:
            trainer.save_checkpoint(self.path)


class Progress(Callback):
    """A line per epoch on `stream` (standard output if None); on a terminal also a bar for the epoch under way."""

    patience = 10.0  # seconds of silence within an epoch, where there is no bar

    def __init__(self, stream=None):
        self.stream = stream
        self._out = self._bar = None  # where to write, and the bar, while `fit` runs

    def _say(self, line):
        if self._bar is not None:
            self._bar.print(line, highlight=False)
        else:
            self._out.write(line + "\n")
            self._out.flush()

    def fit_begin(self, trainer, epochs, batches):
        self._out = sys.stdout if self.stream is None else self.stream
        self._epochs, self._batches = epochs, batches
        self._started = self._spoken = time.monotonic()
        if self._out.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(file=self._out), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(f"epoch {trainer.epoch + 1}/{epochs}", total=batches)

    def step_end(self, trainer, batch, loss):
        if self._out is None:  # an epoch outside `fit`
            return
        if self._bar is not None:
            title = f"epoch {trainer.epoch + 1}/{self._epochs}  loss {loss:.4f}"
            self._bar.update(self._task, completed=batch, description=title)
        elif time.monotonic() - self._spoken > self.patience:
            self._spoken = time.monotonic()
            of = "" if self._batches is None else f"/{self._batches}"
            self._say(f"epoch {trainer.epoch + 1}/{self._epochs}  batch {batch}{of}  loss {loss:.4f}")

    def epoch_end(self, trainer):
        now = time.monotonic()
        last = {name: values[-1] for name, values in trainer.history.items()}
        parts = [f"epoch {trainer.epoch:{len(str(self._epochs))}}/{self._epochs}", f"loss {last['train_loss']:.4f}"]
        if last["train_accuracy"] is not None:
            parts.append(f"accuracy {last['train_accuracy']:.2%}")
        if last["validation_loss"] is not None:
            parts.append(f"validation loss {last['validation_loss']:.4f}")
        if last["validation_accuracy"] is not None:
            parts.append(f"accuracy {last['validation_accuracy']:.2%}")
        self._say("  ".join([*parts, f"lr {last['lr']:.3g}", f"{now - self._started:.1f} s"]))
        self._started = self._spoken = now
        if self._bar is not None:
            self._bar.reset(self._task, description=f"epoch {trainer.epoch + 1}/{self._epochs}")

    def fit_end(self, trainer):
        if self._bar is not None:
            self._bar.stop()
        self._out = self._bar = None


HISTORY = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "lr", "grad_norm")


class Trainer:
    """The loop: forward, backward, clip, step; epochs, evaluation, history, checkpoints.

    model           called with the inputs of a batch; has parameters()
    optimizer       over some or all of them
    loss_fn         loss_fn(outputs, targets), the *mean* over the batch
    scheduler       scheduler(epoch) is the learning rate of that epoch, counted from 0; if groups have different rates,
                    it is the largest, and their proportions stay
    grad_clip_norm  limit of the norm of all gradients together
    callbacks       `Callback` objects, or functions that are called with the trainer after every epoch
    accumulate      how many batches make one step; exact, whatever their sizes
    schedule_steps  ask the scheduler before every step, at fractions of an epoch; the loader then needs a length
    progress        print a line per epoch (see `Progress`)

    `history` is a dictionary of lists, one entry per epoch: train_loss, train_accuracy, validation_loss,
    validation_accuracy (None where there is none), lr, and grad_norm, the largest before clipping. A callback that sets
    `stop` to True ends `fit` after the epoch.
    """

    def __init__(
        self,
        model,
        optimizer: Optimizer,
        loss_fn,
        scheduler=None,
        grad_clip_norm: float | None = None,
        callbacks=(),
        accumulate: int = 1,
        schedule_steps: bool = False,
        progress: bool = True,
    ):
        if not callable(model) or not callable(getattr(model, "parameters", None)):
            raise TypeError(f"Trainer needs a model that can be called and has parameters(), got {model!r}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Trainer needs an optimizer such as SGD(model.parameters()), got {optimizer!r}")
        if not {id(p) for p in model.parameters()} & {id(p) for p in optimizer.parameters}:
            raise ValueError(
                "Trainer: the optimizer holds none of the model's parameters; was it made for another model?"
            )
        if not callable(loss_fn) or not (scheduler is None or callable(scheduler)):
            raise TypeError(f"Trainer needs functions as loss_fn and scheduler, got {loss_fn!r} and {scheduler!r}")
        if getattr(loss_fn, "reduction", "mean") not in ("mean", "batchmean"):
            raise ValueError(f"Trainer needs a loss with reduction='mean', got {loss_fn.reduction!r}")
        if isinstance(accumulate, bool) or not isinstance(accumulate, (int, np.integer)) or accumulate < 1:
            raise ValueError(f"Trainer needs accumulate >= 1 as a whole number, got {accumulate!r}")
        if grad_clip_norm is not None:
            _at_least("Trainer", "grad_clip_norm", grad_clip_norm, 0, strictly=True)
        self.model, self.optimizer, self.loss_fn, self.scheduler = model, optimizer, loss_fn, scheduler
        self.grad_clip_norm, self.accumulate, self.schedule_steps = grad_clip_norm, accumulate, schedule_steps
        self.callbacks = [Progress()] if progress else []
        for callback in callbacks:
            if not isinstance(callback, Callback) and (isinstance(callback, type) or not callable(callback)):
                raise TypeError(f"Trainer needs callbacks that are Callback objects or functions, got {callback!r}")
            self.callbacks.append(callback if isinstance(callback, Callback) else _AfterEpoch(callback))
        self.history = {name: [] for name in HISTORY}
        self.stop = False
        self._batch = 0  # batches done in the epoch under way
        self._ignored = loss_fn.ignore_index if isinstance(loss_fn, (CrossEntropyLoss, NLLLoss)) else None
        rates = [group["lr"] for group in optimizer.param_groups]
        self._proportions = [lr / max(rates) if max(rates) else 1.0 for lr in rates]
        self._loader = self._loader_state = None
        self._loaded = None  # the epoch at which a checkpoint took up

    @property
    def epoch(self):
        """How many epochs have been trained."""
        return len(self.history["train_loss"])

    # Training

    def fit(self, train, epochs: int, validation=None, resume_from=None):
        """Train until `epochs` epochs are done, counted from the very first, and return the history.

        train, validation  loaders: anything that yields batches (inputs, targets), every time it is gone through
        resume_from        path of a checkpoint to take up first, if there is such a file

        So the same call begins a run, and after a crash goes on with it.
        """
        if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 1:
            raise ValueError(f"Trainer.fit needs epochs >= 1 as a whole number, got {epochs!r}")
        if resume_from is not None and os.path.exists(resume_from):
            self.load_checkpoint(resume_from)
        if self.epoch >= epochs and self.epoch != self._loaded:
            raise ValueError(
                f"Trainer.fit(epochs={epochs}): {self.epoch} epochs are already done. epochs counts from the first one "
                f"on; for {epochs} more say epochs={self.epoch + epochs}"
            )
        self.stop = False
        batches = len(train) if hasattr(train, "__len__") else None
        try:
            for callback in self.callbacks:
                callback.fit_begin(self, epochs, batches)
            while self.epoch < epochs and not self.stop:
                self.train_epoch(train)
                if validation is not None:
                    self._complete(self.evaluate(validation))
                for callback in self.callbacks:
                    callback.epoch_end(self)
        finally:
            for callback in self.callbacks:
                callback.fit_end(self)
        return self.history

    def train_epoch(self, loader) -> float:
        """Go through `loader` once, add a row to the history, and return the mean loss."""
        if self.schedule_steps and not hasattr(loader, "__len__"):
            raise TypeError(f"Trainer with schedule_steps=True needs a loader with a length, got {loader!r}")
        self._take(loader)
        _set_mode(self.model, True)
        running, largest = Running(), 0.0
        batches = len(loader) if self.schedule_steps else 1
        self._batch = 0
        for group in grouped(_batches(loader), self.accumulate):
            self._schedule(self._batch / batches if self.schedule_steps else 0)
            largest = max(largest, self.train_step(group, running))
            self._batch += len(group)
            for callback in self.callbacks:
                callback.step_end(self, self._batch, running.loss)
        row = {"train_loss": running.loss, "train_accuracy": running.accuracy}
        row |= {"lr": max(group["lr"] for group in self.optimizer.param_groups), "grad_norm": largest}
        self.history = {name: [*values, row.get(name)] for name, values in self.history.items()}  # all at once
        self._batch = 0
        return running.loss

    def train_step(self, batches, running=None) -> float:
        """One step of the optimizer from a list of (inputs, targets); returns the norm of the gradient before clipping.

        Raises ValueError if a loss or gradient is NaN or infinite; then no weight has changed.
        """
        running = Running() if running is None else running
        counts = [mean_count(self.loss_fn, targets) for _, targets in batches]
        total = sum(counts)
        if not total:
            raise ValueError(f"Trainer: {self._where()}, every target is ignored or has weight 0")
        self.optimizer.zero_grad()
        for (inputs, targets), count in zip(batches, counts):
            if count == 0:
                continue
            outputs = self.model(inputs)
            loss = self.loss_fn(outputs, targets)
            running.add(self._number(loss, inputs), count, *hits(outputs, targets, self._ignored))
            if count != total:
                loss = loss * (count / total)
            loss.backward()
        try:
            norm = clip_grad_norm(self.optimizer.named_parameters, self.grad_clip_norm or math.inf)
        except ValueError as error:
            raise ValueError(f"Trainer: {self._where()}, {error}. No weight was changed by this batch") from None
        self.optimizer.step()
        return norm

    def evaluate(self, loader) -> dict:
        """{"loss": mean over all samples, "accuracy": share of classes that are right, or None} in eval mode."""
        running = Running()
        with _evaluating(self.model), no_grad():
            for inputs, targets in _batches(loader):
                count = mean_count(self.loss_fn, targets)
                if count == 0:
                    continue
                outputs = self.model(inputs)
                loss = self.loss_fn(outputs, targets).item()
                running.add(loss, count, *hits(outputs, targets, self._ignored))
        return {"loss": running.loss, "accuracy": running.accuracy}

    def _complete(self, result):
        """Put the result of `evaluate` into the last row of the history."""
        values = {"validation_loss": result["loss"], "validation_accuracy": result["accuracy"]}
        self.history = self.history | {name: [*self.history[name][:-1], value] for name, value in values.items()}

    def _where(self):
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        return f"epoch {self.epoch + 1}, batch {self._batch}, learning rate {lr:.3g}"

    def _number(self, loss, inputs):
        """The loss as a Python float; raises if it is not one finite number."""
        if not isinstance(loss, Tensor) or loss.size != 1:
            got = f"shape {loss.shape}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise ValueError(f"Trainer needs one number from loss_fn, the mean over the batch, got {got}")
        value = float(loss.item())
        if not math.isfinite(value):
            if np.isfinite(inputs.data).all():
                advice = "Try a smaller learning rate, a warm-up (LinearWarmup), or grad_clip_norm=1.0"
            else:
                advice = "The inputs of this batch hold NaN or infinity: look at the data"
            raise ValueError(f"Trainer: {self._where()}, the loss is {value}. No weight was changed by it. {advice}")
        return value

    def _schedule(self, fraction):
        """Set the learning rate for the epoch under way, of which `fraction` is done."""
        if self.scheduler is None:
            return
        lr = _at_least("Trainer", "the scheduler's rate", self.scheduler(self.epoch + fraction), 0)
        for group, proportion in zip(self.optimizer.param_groups, self._proportions):
            group["lr"] = lr * proportion

    # Checkpoints

    def _take(self, loader):
        """Remember the loader, for checkpoints; and if one was loaded, put the loader where it stood."""
        if self._loader_state is not None:
            if not callable(getattr(loader, "load_state_dict", None)):
                raise ValueError(
                    "Trainer: the checkpoint holds the state of a loader, but this "
                    f"{type(loader).__name__} has no load_state_dict; train with the same kind of loader"
                )
            loader.load_state_dict(self._loader_state)
            self._loader_state = None
        self._loader = loader

    def save_checkpoint(self, path):
        """Save all that it takes to go on after the last complete epoch (`save` says how).

        Model, optimizer, random generator, history, and what the loader and the scheduler remember, if they have a
        state_dict(). Within an epoch the place in it is not saved: such an epoch would be begun again.
        """
        loader = _state_of(self._loader) if self._loader_state is None else self._loader_state
        trainer = {"history": self.history, "loader": loader, "scheduler": _state_of(self.scheduler)}
        save(path, self.model, self.optimizer, trainer=trainer)

    def load_checkpoint(self, path):
        """Go on where the trainer stood that was saved to `path`.

        Raises CheckpointError if the file is damaged or does not fit; then nothing has changed.
        """

        def check(content):
            trainer = content.get("trainer")
            history = trainer.get("history") if isinstance(trainer, dict) else None
            if not isinstance(history, dict) or history.keys() != self.history.keys():
                raise CheckpointError(f"{path} was not saved by a Trainer; use load(path, model, optimizer)")
            if (trainer["scheduler"] is None) != (_state_of(self.scheduler) is None):
                raise CheckpointError(f"{path} was saved with another kind of scheduler")

        trainer = load(path, self.model, self.optimizer, check)["trainer"]
        self.history = trainer["history"]
        self._loader_state = trainer["loader"]
        if trainer["scheduler"] is not None:
            self.scheduler.load_state_dict(trainer["scheduler"])
        self._loaded = self.epoch

    def __repr__(self):
        return f"Trainer({type(self.model).__name__}, {type(self.optimizer).__name__}, {self.epoch} epochs done)"
