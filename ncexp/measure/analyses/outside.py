"""Out of distribution: NC5, and how well scores of single examples tell test examples from those of other data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ncexp.collapse import ClassStatistics
from ncexp.collapse.out_of_distribution import (
    VirtualLogit,
    auroc,
    energy,
    false_positive_rate,
    mahalanobis,
    maximum_logit,
    maximum_softmax,
    nearest_class_mean,
    neco,
    outside_orthogonality,
)
from ncexp.config import Seed
from ncexp.datasets import Examples
from ncexp.datasets.outside import HELD_OUT, NOISE, Noise, outside_sets
from ncexp.measure.analyses.from_examples import BLOCK
from ncexp.measure.analyses.from_statistics import LayerwiseCollapse
from ncexp.measure.evaluation import Evaluation, Needs
from ncexp.measure.evaluator import Subject, forward
from ncexp.measure.loaders import LoadedData, LoadedExamples
from ncexp.measure.probes import Probe, Probes

#: Features (m, P) → scores (m,), higher for what looks more like train data.
Score = Callable[[Tensor], Tensor]
#: The last layer's features among those of probed submodules.
LAST = ""


class Outside:
    """Of each set outside, ``test/outside/<set>/nc5`` (`outside_orthogonality`), and of each score ``auroc_<score>``,
    ``fpr95_<score>``: how well it tells the test examples from those of the set. Scores are maximum_softmax,
    maximum_logit, energy, mahalanobis, virtual_logit, neco and nearest_class_mean, defined and cited in
    `ncexp.collapse.out_of_distribution`; logits are W h + b in float64, statistics those of the train examples.

    neco has d = C directions; virtual_logit 1000 for P >= 2048, 512 for P >= 768, else ⌊P/2⌋, as its authors have it.
    Undefined (nan): mahalanobis where no direction of Σ_W is above rounding, else it counts the known ones alone, as
    with fewer examples than P; neco where Σ_T has fewer than C known directions, or some h is 0; virtual_logit where
    train features leave no residual, or P = 1; all where a feature outside is not finite.

    datasets: ``noise``, ``held_out``, choices of conf/dataset, or mappings with options of one (`outside_sets`); of a
    loop of one's own the names of what is given to `Recorder.evaluate(outside=...)`. noise_seed: of the noise.
    modules, every, features: as for `layers`, here none by default: of each submodule ``outside/<set>/<module>/...``
    the same but for the scores that need logits.
    """

    needs: Needs = "network"

    def __init__(
        self,
        *,
        datasets: Annotated[list[str | dict[str, Any]], Field(min_length=1)],
        noise_seed: Seed = 0,
        modules: Annotated[list[str], Field(min_length=1)] | None = None,
        every: Literal["block"] | None = None,
        features: Literal["average", "class_token", "token_mean", "spatial_mean", "flatten", "last_token"] = "average",
    ) -> None:
        self._asked, self._seed = datasets, noise_seed
        asks = modules is not None or every is not None
        self.probes: Mapping[str, Probe] = (
            LayerwiseCollapse(modules=modules, every=every, features=features).probes if asks else {}
        )
        self._sets: dict[str, Examples] = {}
        self._of: Any = None

    def check(self, subject: Subject) -> None:
        """Have the sets ready. Raises ValueError for those that cannot be had, and on several processes."""
        data = subject.dataset
        if subject.processes.size > 1:
            raise ValueError(
                f"datasets: expected one process, got {subject.processes.size}. Leave it out of the training, and "
                "measure it on the weights that it keeps: ncexp measure RUN analysis=outside."
            )
        if "test" not in data.splits:
            raise ValueError("datasets: expected test examples to compare with, got none. Pass a test loader.")
        if self._of is not data:
            if isinstance(data, LoadedData):
                self._sets = self._loaded(data)
            else:
                self._sets = outside_sets(data, self._asked, self._seed)
            self._of = data

    def __call__(self, evaluation: Evaluation) -> Iterator[tuple[str, float]]:
        if evaluation.split != "test":
            return
        train = Evaluation("train", evaluation.epoch, evaluation.snapshot, evaluation.subject)
        statistics = {LAST: train.statistics, **train.layers(self.probes)}
        scores = {place: _of_features(one) for place, one in statistics.items()}
        scores[LAST] = _of_logits(train) | scores[LAST]
        inside = self._features(evaluation, evaluation.data)
        known = {place: _scored(scores[place], rows) for place, rows in inside.items()}
        for name, examples in self._sets.items():
            for place, rows in self._features(evaluation, examples).items():
                family = f"outside/{name}/{place}" if place else f"outside/{name}"
                finite = bool(rows.isfinite().all())
                mean = rows.double().mean(0)
                means = statistics[place].class_means.to(rows.device)
                yield f"{family}/nc5", outside_orthogonality(means, mean) if finite else math.nan
                outside = _scored(scores[place], rows) if finite else dict.fromkeys(scores[place])
                for score, values in outside.items():
                    pair = (known[place][score], values)
                    yield f"{family}/auroc_{score}", _detected(auroc, *pair)
                    yield f"{family}/fpr95_{score}", _detected(false_positive_rate, *pair)

    def _loaded(self, data: LoadedData) -> dict[str, Examples]:
        asked = [one for one in self._asked if isinstance(one, str) and one not in (HELD_OUT, NOISE)]
        if {*asked} != {*data.outside} or len(asked) + self._asked.count(NOISE) < len(self._asked):
            raise ValueError(
                f"datasets: expected the names of what Recorder.evaluate(outside=...) is given, {[*data.outside]}, and "
                f"{NOISE}, got {self._asked}. Give both the same names."
            )
        found = dict(data.outside)
        if NOISE in self._asked:
            train, test = data.splits["train"], data.splits["test"]
            assert isinstance(train, LoadedExamples)
            train.input_shape  # noqa: B018 (raises ValueError where an input is no tensor)
            found[NOISE] = Noise.like(train, len(test), self._seed).to(test.labels.device)
        return found

    def _features(self, evaluation: Evaluation, data: Examples) -> dict[str, Tensor]:
        """LAST, and each probed submodule → its features (n, P) of these examples: the network runs over them."""
        subject = evaluation.subject
        assert subject is not None
        watched = Probes(subject.network, self.probes, subject.dataset.num_classes)
        found: dict[str, list[Tensor]] = {}
        with watched.watching():
            for _, last, labels, _ in forward(subject, data):
                found.setdefault(LAST, []).append(last)
                for name, features in watched.features(len(labels)).items():
                    found.setdefault(watched.places[name], []).append(features)
        return {place: torch.cat(parts) for place, parts in found.items()}


def _of_features(statistics: ClassStatistics) -> dict[str, Score | None]:
    """The scores that need no logits; None where these statistics do not tell them."""
    scores: dict[str, Score] = {
        "mahalanobis": partial(mahalanobis, statistics=statistics),
        "neco": partial(neco, statistics=statistics, num_directions=statistics.num_classes),
        "nearest_class_mean": partial(nearest_class_mean, class_means=statistics.class_means),
    }
    nothing = torch.zeros(0, statistics.num_features)
    return {name: None if _defined(partial(score, nothing)) is None else score for name, score in scores.items()}


def _of_logits(train: Evaluation) -> dict[str, Score | None]:
    """Those of the last layer's logits, and ViM."""
    classifier = train.classifier.to(train.device)

    def of(score: Score) -> Score:
        return lambda rows: score(classifier(rows))

    scores = {"maximum_softmax": of(maximum_softmax), "maximum_logit": of(maximum_logit), "energy": of(energy)}
    width = train.statistics.num_features
    directions = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
    fit = partial(VirtualLogit.fit, train.statistics, train.classifier, directions)
    return {**scores, "virtual_logit": _defined(lambda: fit(rows for rows, _ in train.features()))}


def _defined(make: Callable[[], Any]) -> Any:
    """What it returns; None where it refuses the statistics."""
    try:
        return make()
    except ValueError:
        return None


def _scored(scores: Mapping[str, Score | None], rows: Tensor) -> dict[str, Tensor | None]:
    return {
        name: None if score is None else torch.cat([score(block).cpu() for block in rows.split(BLOCK)])
        for name, score in scores.items()
    }


def _detected(number: Callable[[Tensor, Tensor], float], inside: Tensor | None, outside: Tensor | None) -> float:
    """nan where a score is not defined."""
    if inside is None or outside is None or bool(inside.isnan().any()) or bool(outside.isnan().any()):
        return math.nan
    return number(inside, outside)
