"""conf/loss: the training objectives.

A loss is a callable (logits (n, C), labels (n,)) → scalar, averaged over the examples; one that has a parameter named
`features` gets the inputs of the last layer (n, P) as well, so that it may regularise them, and one that names
`weight` or `bias`, without a default, those of the last layer, (C, P) and (C,) or None. One that is a multiple of
the paper's MSE says so by `half_mse_scale`, the s in s · ½ Ave ‖logits − onehot‖²; the λ of the decomposition follows.
Of a regression the labels are targets (n, m) float32, and the logits predictions of them; a loss says by `task` what it
is for, "classes" or "targets", and by `soft_labels` whether it takes (n, C) float32 in place of labels as well.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ncexp.collapse import LinearMap
from ncexp.config import Fraction, NonNegative, Positive

#: Examples of one batch on which a loss is tried.
_TRIED_TOGETHER = 64
#: Classes beyond which each label is tried once, and with logits that are drawn once: they are C² numbers.
_MANY = 2**11
#: s, as a number, or "2/C": the mean over the classes instead of half their sum, as torch.nn.MSELoss() has it.
Scale = Positive | Literal["2/C"]


class Objective:
    """(logits (n, C), labels (n,), features (n, P), the last layer) → the mean loss, a scalar.

    The loss gets of features, weight and bias what its signature asks for. layer: anything that has a weight and a
    bias; it is not looked at for a loss that asks for neither.
    """

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        # A module's own signature says (*args, **kwargs); that of its `forward` is meant.
        asked = inspect.signature(getattr(loss, "forward", loss)).parameters
        self._loss, self._of_features = loss, "features" in asked
        #: Which of weight and bias it asks for: without a default, as torch's own losses have weights of classes so.
        self.of_layer = tuple(
            name for name in ("weight", "bias") if name in asked and asked[name].default is inspect.Parameter.empty
        )

    def __call__(self, logits: Tensor, labels: Tensor, features: Tensor, layer: Any = None) -> Tensor:
        given = {name: getattr(layer, name) for name in self.of_layer}
        if self._of_features:
            given["features"] = features
        return self._loss(logits, labels, **given)


def objective_of(loss: Callable[..., Tensor]) -> Objective:
    """The loss as a function of all that it may ask for."""
    return Objective(loss)


def refuse_other_task(loss: object, name: str, of_targets: bool) -> None:
    """Raises ValueError for a loss of classes where the data have targets, and the other way round.

    A loss that says nothing by `task` is taken for what the data are.
    """
    wanted, got = ("targets", "classes") if of_targets else ("classes", "targets")
    if getattr(loss, "task", wanted) != wanted:
        choices = "squared_error, squared_error_mean, huber" if of_targets else "mse, mse_mean, cross_entropy"
        raise ValueError(
            f"loss: expected a loss of {wanted}, which these data have, got {name}, of {got}. Choose {choices}, or "
            "another."
        )


def refuse_other_than_scalar(loss: Objective, weight: Tensor, of_targets: bool = False) -> None:
    """Try a loss on two examples; generators are left as found. weight: the last layer's (C, P).

    Raises ValueError where it returns no scalar tensor that depends on the logits: an unreduced one, a number.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
        logits = weight.new_zeros(2, weight.shape[0], requires_grad=True)
        labels = torch.zeros_like(logits) if of_targets else weight.new_zeros(2, dtype=torch.int64)
        features = weight.new_zeros(2, weight.shape[1], requires_grad=True)  # of which alone a loss may be
        value = loss(logits, labels, features, LinearMap(weight, weight.new_zeros(len(weight))))
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        raise ValueError(
            "loss: expected a scalar tensor that depends on the logits, the mean over the examples, got "
            f"a {type(value).__name__}{shape} for two examples. Reduce it with .mean(), without .detach() or .item()."
        )


def refuse_soft_labels(loss: object, name: str, regime: str) -> None:
    """Raises ValueError for a loss that does not take labels (n, C), as mixed examples have them, and for a last layer
    that is computed from whole classes. A loss says that it takes them by ``soft_labels = True``.
    """
    if not getattr(loss, "soft_labels", False):
        raise ValueError(
            f"dataset.augment: expected a loss that takes soft labels (n, C) for mixup and cutmix, got {name}. Choose "
            "mse, mse_mean, cross_entropy or label_smoothing; one of your own says by soft_labels = True that it does."
        )
    if regime != "plain":
        raise ValueError(
            f"dataset.augment: expected no mixup or cutmix with regime={regime}, whose last layer is that of whole "
            "classes, got some. Leave them out, or use regime=plain."
        )


def is_mean_of_targets(loss: Objective, weight: Tensor) -> bool:
    """Whether a loss of targets is a mean over the examples: batches cut in two at random have the mean of their parts.

    Generators are left as found. weight: the last layer's (m, P).
    """
    gpus = [weight.device] if weight.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(gpus), warnings.catch_warnings(action="ignore"):
        try:
            return _Trial(loss, weight).is_mean_of_targets()
        except (RuntimeError, ValueError):  # it does not take one example, or float32 predictions
            return False


def label_weights(loss: Objective, weight: Tensor) -> Tensor | None:
    """v (C,), float64, of a loss that is Σ_i v(y_i) ℓ_i / Σ_i v(y_i) over any batch; None for a loss of another form.

    Then the loss of a whole set is the mean of those of its batches, each counted by the sum of its v. A mean over the
    examples has v = 1; class weights, an ignored class and label smoothing with weights have others. A sum is of
    another form, and so is a loss that takes its examples together. Found by trying the loss on random examples, and
    held against batches cut in two at random; generators are left as found. weight: the last layer's (C, P).
    """
    gpus = [weight.device] if weight.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(gpus), warnings.catch_warnings(action="ignore"):
        trial = _Trial(loss, weight)
        alike = torch.ones(len(weight), dtype=torch.float64)
        try:
            if trial.explained_by(alike):
                return alike
            weights = trial.weights()
            possible = bool(weights.isfinite().all() and weights.min() >= 0 and weights.max() > 0)
            of_this_form = possible and trial.explained_by(weights)
        except (RuntimeError, ValueError):  # it does not take one example, or float32 logits
            return None
    return weights if of_this_form else None


class _Trial:
    """A loss on made-up examples, in the precision of the last layer's weight (C, P), in float32 at least."""

    def __init__(self, loss: Objective, weight: Tensor) -> None:
        precise = torch.promote_types(weight.dtype, torch.float32)
        self._loss, self._weight, self._classes = loss, weight.to(precise), len(weight)
        self._generator = torch.Generator().manual_seed(0)
        self._layer = LinearMap(self._weight, self._weight.new_zeros(len(weight)))
        #: Of a loss that asks for the last layer: its logits are made of the features, so an example keeps its own.
        self._of_features = torch.Generator().manual_seed(1) if getattr(loss, "of_layer", ()) else None
        #: Relative: sums of as many terms as a batch has, in another order.
        self._tolerance = _TRIED_TOGETHER * torch.finfo(precise).eps

    def explained_by(self, weights: Tensor) -> bool:
        """Whether batches of all labels, cut in two at random, have the loss of their parts, counted by the weights."""
        many = self._classes > _MANY
        drawn = torch.randint(self._classes, (max(self._classes, _TRIED_TOGETHER),), generator=self._generator)
        labels = torch.cat([torch.arange(self._classes), drawn[: len(drawn) * (not many)]])
        labels = labels[torch.randperm(len(labels), generator=self._generator)]
        again = torch.randn(_TRIED_TOGETHER + 1, self._classes, generator=self._generator) if many else None
        best = weights.argmax()  # in each batch, so that those of one batch are held against those of the others
        for some in labels.split(_TRIED_TOGETHER):
            together = torch.cat([best[None], some])
            if again is None:
                logits = torch.randn(len(together), self._classes, generator=self._generator)
            else:
                logits = again[: len(together)]
            cut = int(torch.randint(1, len(together), (), generator=self._generator))
            own = self._own_features(len(together))
            halves = [slice(cut), slice(cut, None)]
            parts = [(logits[half], together[half], None if own is None else own[half]) for half in halves]
            counted = [(float(weights[part[1]].sum()), self(*part)) for part in parts]
            expected = sum(count * value for count, value in counted if count)
            expected /= sum(count for count, _ in counted)
            size = max(abs(value) for count, value in counted if count)
            if not abs(self(logits, together, own) - expected) <= self._tolerance * size:
                return False
        return True

    def is_mean_of_targets(self) -> bool:
        """See the function of this name."""
        for _ in range(4):
            cut = int(torch.randint(1, _TRIED_TOGETHER, (), generator=self._generator))
            outputs, targets = torch.randn(2, _TRIED_TOGETHER, self._classes, generator=self._generator)
            together = self(outputs, targets.to(self._weight))
            parts = [self(outputs[part], targets[part].to(self._weight)) for part in (slice(cut), slice(cut, None))]
            expected = (cut * parts[0] + (_TRIED_TOGETHER - cut) * parts[1]) / _TRIED_TOGETHER
            if not abs(together - expected) <= self._tolerance * max(map(abs, parts)):
                return False
        return True

    def weights(self) -> Tensor:
        """v (C,), the first that is not 0 as unit, not finite for a loss of another form.

        From an example of each class: by its logits the loss of all has v_i / Σ v of the slope of its own loss alone.
        Of many classes some at a time, each time with the one that has the largest v of the first.
        """
        if self._classes <= _MANY:
            return self._weights_of(torch.arange(self._classes))
        parts = torch.arange(self._classes).split(_TRIED_TOGETHER)
        best = parts[0][self._weights_of(parts[0]).argmax()]
        found = [self._weights_of(torch.cat([best[None], part]))[1:] for part in parts]
        return torch.cat(found)

    def _weights_of(self, labels: Tensor) -> Tensor:
        logits = torch.randn(len(labels), self._classes, generator=self._generator)
        together = self._slopes(logits, labels)
        alone = torch.cat([self._slopes(*one) for one in zip(logits.split(1), labels.split(1), strict=True)])
        found = torch.where(together == 0, 0.0, torch.where(alone.isfinite(), together / alone, torch.inf))
        return found / found[found != 0][0] if bool(found.any()) else found

    def _slopes(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(n,), float64: how steep the loss is by the logits of each example."""
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self._value(logits, labels), [logits])
        return slopes.double().norm(dim=1).cpu()

    def _own_features(self, count: int) -> Tensor | None:
        if self._of_features is None:
            return None
        return torch.randn(count, self._weight.shape[1], generator=self._of_features)

    def __call__(self, logits: Tensor, labels: Tensor, features: Tensor | None = None) -> float:
        return float(self._value(logits, labels, features))

    def _value(self, logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
        if features is None:
            features = torch.randn(len(labels), self._weight.shape[1], generator=self._generator)
        given = (logits.to(self._weight), labels.to(self._weight.device), features.to(self._weight))
        return self._loss(*given, self._layer)


class MSE:
    """s · ½ · Ave_i ‖logits_i − onehot(y_i)‖², the sum over classes not averaged (HPD22, section 1).

    scale: s. 1.0 is the paper's loss; "2/C" is torch.nn.MSELoss(), which takes the mean over the classes as well.
    """

    task = "classes"
    soft_labels = True

    def __init__(self, num_classes: int, *, scale: Scale = 1.0) -> None:
        self.half_mse_scale = resolve(scale, num_classes)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        soft = labels.is_floating_point()
        targets = (labels if soft else functional.one_hot(labels, logits.shape[1])).to(logits.dtype)
        return self.half_mse_scale / 2 * (logits - targets).square().sum() / len(labels)


class RescaledMSE:
    """s · ½ · Ave_i [κ (logits_i[y_i] − M)² + Σ_{c ≠ y_i} logits_i[c]²]: the MSE for many classes (Hui & Belkin 2021).

    target: M, which the true class's logit is drawn to instead of 1; weight: κ, of that term. scale: s; "2/C" gives
    their loss, which averages over the classes. For κ = M = 1 it is the MSE; otherwise the decomposition, which is of
    one-hot targets, has no λ for it, and half_mse_scale is None.
    """

    task = "classes"

    def __init__(self, num_classes: int, *, target: Positive, weight: Positive, scale: Scale = "2/C") -> None:
        self.scale, self.target, self.weight = resolve(scale, num_classes), target, weight
        self.half_mse_scale = self.scale if target == weight == 1 else None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        true = logits.gather(1, labels.unsqueeze(1))
        # Σ_{c ≠ y} z_c² as Σ_c z_c² − z_y² would cancel: the true class, drawn to M, is by far the largest.
        others = logits.scatter(1, labels.unsqueeze(1), 0.0).square().sum()
        return self.scale / 2 * (self.weight * (true - self.target).square().sum() + others) / len(labels)


class CrossEntropy:
    """−Ave_i log softmax(logits_i)[y_i]."""

    half_mse_scale = None
    task = "classes"
    soft_labels = True

    def __init__(self, num_classes: int) -> None:
        del num_classes  # every loss is given it; this one has no use for it

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels)


class LabelSmoothing:
    """Cross-entropy with the targets (1 − ε) onehot(y_i) + ε/C (Szegedy et al. 2016, section 7); smoothing: ε."""

    half_mse_scale = None
    task = "classes"
    soft_labels = True

    def __init__(self, num_classes: int, *, smoothing: Fraction = 0.1) -> None:
        del num_classes
        self.smoothing = smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class Focal:
    """−Ave_i (1 − p_i)^γ log p_i, p_i = softmax(logits_i)[y_i] (Lin et al. 2017); gamma: γ, 0 for cross-entropy."""

    half_mse_scale = None
    task = "classes"

    def __init__(self, num_classes: int, *, gamma: NonNegative = 2.0) -> None:
        del num_classes
        self.gamma = gamma

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        # log(1 − p) from the other classes' logits: 1 − p itself rounds to 0 at collapse, where its power has no slope.
        others = logits.scatter(1, labels.unsqueeze(1), -torch.inf).logsumexp(1)
        log_rest = others - logits.logsumexp(1)
        log_true = -functional.cross_entropy(logits, labels, reduction="none")
        return -((self.gamma * log_rest).exp() * log_true).mean()


class SquaredError:
    """s · ½ · Ave_i ‖ŷ_i − y_i‖², the sum over the targets, not their mean.

    scale: s; "2/C" is torch.nn.MSELoss(), which takes the mean over the targets as well.
    """

    task = "targets"

    def __init__(self, num_classes: int, *, scale: Scale = 1.0) -> None:
        self.half_mse_scale = resolve(scale, num_classes)

    def __call__(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return self.half_mse_scale / 2 * (predictions - targets).square().sum() / len(targets)


class Huber:
    """Ave_i Σ_k ρ(ŷ_ik − y_ik), ρ(r) = ½ r² up to |r| = δ, δ (|r| − δ/2) beyond (Huber 1964); delta: δ.

    The sum over the targets, as of `SquaredError`, which it is for large δ.
    """

    half_mse_scale = None
    task = "targets"

    def __init__(self, num_classes: int, *, delta: Positive = 1.0) -> None:
        del num_classes
        self.delta = delta

    def __call__(self, predictions: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(predictions)  # torch's takes one precision
        return functional.huber_loss(predictions, targets, reduction="sum", delta=self.delta) / len(targets)


def resolve(scale: float | Literal["2/C"], num_classes: int) -> float:
    """s as a number."""
    return 2 / num_classes if scale == "2/C" else float(scale)
