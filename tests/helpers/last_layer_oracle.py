"""Every number that analyses yield from statistics and last layer, held against its definition to fifty digits.

`Case` of tests/collapse/test_fifty_digits.py has the features' moments in mpmath; here they are lists of rows, as sums
of products of lists are several times faster. A number is compared where the features determine it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

from ncexp.collapse import ClassStatistics, LinearClassifier, snr_spectrum
from ncexp.measure.analyses import CentralPathAnalysis, Geometry, MSEDecompositionAnalysis, NeuralCollapse

Rows = list[list[mpf]]
Expected = Iterator[tuple[str, mpf, float]]
ROUND_OFF = 2.0**-52


def yielded(
    statistics: ClassStatistics, layer: LinearClassifier, ridge: float | tuple[float, float]
) -> dict[str, float]:
    """What the analyses of statistics yield of train features."""
    ridges = ridge if isinstance(ridge, tuple) else (ridge, ridge)
    evaluation = SimpleNamespace(
        split="train",
        of_targets=False,
        statistics=statistics,
        classifier=layer,
        spectrum=snr_spectrum(statistics),
        ridge=SimpleNamespace(weight=ridges[0], bias=ridges[1]),
        snapshot=SimpleNamespace(splits={"train": SimpleNamespace(of_classes=statistics)}),
    )
    analyses = (NeuralCollapse(), Geometry(), CentralPathAnalysis(), MSEDecompositionAnalysis())
    return {name: value for analysis in analyses for name, value in analysis(evaluation)}


def check_catalogue(case: Any) -> None:
    """Compares what is determined; the names of what was compared join `case.compared`."""
    weight = rows_of(case.layer.weight.tolist())
    center, size = mean_of(case.means), length(case.sizes)
    frame = [minus(row, center) for row in case.means]
    expected = itertools.chain(
        of_rows("classifier", weight, case, 1e-11),
        of_counts(case),
        of_means(case, weight, frame, size),
        of_spectrum(case, frame, size),
    )
    for name, value, allowed in expected:
        found = case.found[name]
        assert type(found) is float
        assert abs(found - float(value)) <= allowed, f"{name}: {found} instead of {float(value)}"
        case.compared.add(name)


def of_rows(kind: str, rows: Rows, case: Any, rel: float) -> Expected:
    """NC2 and geometry of class means or classifier, each row known to `rel`."""
    lengths, count = [length(row) for row in rows], len(rows)
    units = [[entry / own for entry in row] for row, own in zip(rows, lengths, strict=True)]
    pairs = [(one, other) for one in range(count) for other in range(one)]
    cosines = [mpmath.fdot(units[one], units[other]) for one, other in pairs]
    mean, middle = mpmath.fsum(lengths) / count, mpmath.fsum(cosines) / len(pairs)
    deviation = mpmath.sqrt(mpmath.fsum((own - mean) ** 2 for own in lengths) / (count - 1))
    yield f"collapse/equinorm_{kind}", deviation / mean, 10 * rel
    angles = mpmath.fsum(abs(cosine + mpf(1) / (count - 1)) for cosine in cosines)
    yield f"collapse/maximal_angle_{kind}", angles / len(pairs), 10 * rel
    spread = mpmath.sqrt(mpmath.fsum((cosine - middle) ** 2 for cosine in cosines) / len(pairs))
    yield f"collapse/equiangularity_{kind}", spread, rel**0.5 if spread < 1e-5 else 1e5 * rel
    gram = products(rows, rows)
    yield f"collapse/etf_error_{kind}", apart(gram, simplex(count)), 100 * rel
    if kind == "classifier":
        total = [mpmath.fsum(column) for column in zip(*rows, strict=True)]
        yield "collapse/nc0_classifier", length(total) / norm(rows), 10 * rel
    yield f"geometry/margin_{kind}", min(hull_distance(units, c) for c in range(count)), 1e-8 + 1e3 * rel
    yield from minority_angle(kind, units, case.statistics.counts.tolist(), rel)
    if count - 1 <= len(rows[0]):
        about = rows
        if kind == "means":
            center = [mpmath.fdot(case.shares, column) for column in zip(*rows, strict=True)]
            about = [minus(row, center) for row in rows]
        for name, these in (("seli", rows), ("free_bias", about)):
            target = label_gram(kind, name, tuple(case.statistics.counts.tolist()))
            yield f"geometry/{name}_{kind}", apart(products(these, these), target), 100 * rel


def minority_angle(kind: str, units: Rows, counts: list[int], rel: float) -> Expected:
    few = [unit for unit, own in zip(units, counts, strict=True) if own * len(counts) < sum(counts)]
    pairs = list(itertools.combinations(few, 2))
    if pairs:
        degrees = [mpmath.degrees(mpmath.acos(max(-1, min(1, mpmath.fdot(*pair))))) for pair in pairs]
        yield f"geometry/minority_angle_{kind}", mpmath.fsum(degrees) / len(pairs), 1e4 * rel


def of_counts(case: Any) -> Expected:
    counts = case.statistics.counts.tolist()
    gram = label_gram("classifier", "seli", tuple(counts))
    roots = [mpmath.sqrt(gram[c][c]) for c in range(len(counts))]
    few = [c for c in range(len(counts)) if counts[c] * len(counts) < sum(counts)]
    pairs = list(itertools.combinations(few, 2))
    if pairs:
        degrees = [mpmath.degrees(mpmath.acos(gram[a][b] / roots[a] / roots[b])) for a, b in pairs]
        yield "geometry/minority_angle_seli", mpmath.fsum(degrees) / len(pairs), 1e-9


def of_means(case: Any, weight: Rows, frame: Rows, size: mpf) -> Expected:
    """NC1 to NC3 where every class mean is more than its rounding."""
    lengths, count = [length(row) for row in frame], len(frame)
    if min(lengths) <= 2 * case.mean_rounding:
        return
    rel = 1e-11 + float(1000 * ROUND_OFF * size / min(lengths))
    yield from of_rows("means", frame, case, rel)
    yield "collapse/norm_ratio", (norm(weight) / norm(frame)) ** 2, 10 * rel * float(norm(weight) / norm(frame)) ** 2
    own = [mpmath.fdot(*pair) for pair in zip(weight, frame, strict=True)]
    mean, largest = mpmath.fsum(own) / count, float(max(abs(one) for one in own))
    yield "collapse/uniform_duality", mpmath.fsum((one - mean) ** 2 for one in own) / count, 100 * rel * largest**2
    angles = [1 - one / length(w) / m for one, w, m in zip(own, weight, lengths, strict=True)]
    yield "collapse/self_duality_angle", mpmath.fsum(angles) / count, 10 * rel
    scales = norm(weight), norm(frame)
    gaps = [
        a / scales[0] - b / scales[1] for pair in zip(weight, frame, strict=True) for a, b in zip(*pair, strict=True)
    ]
    yield "collapse/self_duality", mpmath.fdot(gaps, gaps), 10 * rel
    cross = products(weight, frame)
    if norm(cross) > 1e-3 * scales[0] * scales[1]:
        yield "collapse/self_duality_product", apart(cross, simplex(count)), 1e5 * rel
    yield from of_pairs(case, frame, lengths, size)
    between = mpmath.fsum(case.between[i, i] for i in range(case.num_features))
    of_sums = float((len(case.labels) * ROUND_OFF * size) ** 2 / between)
    resolved = rel + 100 * min(case.resolution(), 1.0)
    order = sorted(range(count), key=lambda c: (-case.statistics.counts[c], c))
    for place, c in enumerate(order):
        ratio = case.variances[c] / between
        yield f"geometry/nc1_{place + 1}", ratio, float(ratio) * resolved + of_sums
    ratio = mpmath.fdot(case.shares, case.variances) / between
    yield "collapse/nc1_ratio", ratio, float(ratio) * resolved + of_sums


def of_pairs(case: Any, frame: Rows, lengths: list[mpf], size: mpf) -> Expected:
    pairs = [(a, b) for a in range(len(frame)) for b in range(a)]
    gaps = [length(minus(frame[a], frame[b])) for a, b in pairs]
    if min(gaps) > 4 * case.mean_rounding:
        ratios = [(case.variances[a] + case.variances[b]) / 2 / gap**2 for (a, b), gap in zip(pairs, gaps, strict=True)]
        rel = 1e-11 + float(1e4 * ROUND_OFF * size / min(gaps)) + 100 * min(case.resolution(), 1.0)
        of_sums = float((len(case.labels) * ROUND_OFF * size / min(gaps)) ** 2)
        cdnv = mpmath.fsum(ratios) / len(pairs)
        yield "collapse/cdnv", cdnv, rel * float(cdnv) + of_sums
    units = [[entry / own for entry in row] for row, own in zip(frame, lengths, strict=True)]
    apart_ = [length(minus(units[a], units[b])) for a, b in pairs]
    if min(apart_) > 1e3 * case.mean_rounding / min(lengths):
        logs = [-mpmath.log(one) for one in apart_]
        mean = mpmath.fsum(logs) / len(logs)
        rel = 1e-11 + float(1e4 * ROUND_OFF * size / min(lengths) / min(apart_))
        yield "collapse/uniformity_means", mean, 10 * rel
        variance = mpmath.fsum((one - mean) ** 2 for one in logs) / len(logs)
        yield "collapse/uniformity_means_variance", variance, 100 * rel * max(1.0, float(max(map(abs, logs))))


def of_spectrum(case: Any, frame: Rows, size: mpf) -> Expected:
    """Ranks, effective ranks and all that rests on ω, where Σ_W and the class means are more than rounding."""
    scales = [mpmath.sqrt(max(value, 0)) for value in spectrum_of(products(frame, frame))][::-1]
    rank = min(len(frame) - 1, case.num_features)
    if scales[rank - 1] > 100 * case.mean_rounding:
        rel = 1e-11 + float(1000 * ROUND_OFF * size / scales[rank - 1])
        yield "collapse/rank_means", mpf(rank), 0.0
        yield "collapse/effective_rank_means", entropy_rank(scales[:rank]), 1e3 * rel
        if not rel < 1e-6:
            return
        between, vectors, order = case.between_spectrum
        shares = [(vectors[:, j].T * case.within * vectors[:, j])[0] / between[j] for j in order[:rank]]
        nc1 = mpmath.fsum(shares) / len(frame)
        allowed = (100 * rel**2 / 1e-11 + rel + 100 * min(case.resolution(), 1.0)) * float(nc1)
        for name in ("nc1_trace", "nc1_trace_on_range"):
            yield f"collapse/{name}", nc1, allowed + 1e4 * float(ROUND_OFF * size / scales[rank - 1]) ** 2
    if case.least_variance > 2:
        yield from of_whitened(case, rank, scales[rank - 1] > 100 * case.mean_rounding)


def of_whitened(case: Any, rank: int, determined: bool) -> Expected:
    width, count = case.num_features, case.num_classes
    correlation = case.correlation_condition(mpf(0))
    rel = 1e-11 + 100 * width * ROUND_OFF * float(correlation) + 100 * case.resolution()
    yield "path/rank", mpf(width), 0.0
    if rel > 1e-2:
        return
    values = spectrum_of(rows_of(case.within.tolist()))
    condition = float(values[-1] / values[0])
    if condition < 1e10:
        roots = [mpmath.sqrt(value) for value in values]
        yield "collapse/effective_rank_within", entropy_rank(roots), 1e-9 * condition**0.5 + 1e4 * case.resolution()
    yield "path/condition_number", correlation, 10 * rel * float(correlation)
    rounding = width * ROUND_OFF * float(correlation)
    yield "path/snr_rounding", mpf(rounding), 10 * rel * rounding
    ratio = case.centered * mpmath.inverse(case.within) * case.centered.T
    omegas = [mpmath.sqrt(max(value, 0)) for value in spectrum_of(rows_of(ratio.tolist()))][::-1][:rank]
    for place, omega in enumerate(omegas):
        yield f"path/snr_{place + 1}", omega, rel * float(omegas[0])
    last = rel * float(omegas[0] / omegas[-1])
    if not determined or last > 1e-4:
        return
    yield "path/snr_ratio", omegas[0] / omegas[-1], 10 * last * float(omegas[0] / omegas[-1])
    snr = mpmath.fsum(omega**-2 for omega in omegas)
    yield "collapse/nc1_snr", snr, 10 * last * float(snr)
    if len(set(case.shares)) == 1:
        values = [*omegas, *[mpf(0)] * (count - 1 - rank)]
        spread = mpmath.fsum(omega**2 / (count + omega**2) ** 2 for omega in values) / 2
        short = mpmath.fsum(count / (count + omega**2) ** 2 for omega in values) / 2
        for name, value in (("ls", spread + short), ("nc1", spread), ("nc23", short)):
            if rank == count - 1:
                yield f"path/loss_{name}", value, 10 * last * float(value)
        if rank == count - 1:
            yield "path/identity_residual", mpf(0), 100 * last


def hull_distance(points: Rows, c: int) -> mpf:
    """From a point to the convex hull of the others: the least over their faces that the foot lies in."""
    others = [minus(point, points[c]) for place, point in enumerate(points) if place != c]
    nearest = min(length(point) for point in others)
    for some in range(2, len(others) + 1):
        for face in itertools.combinations(others, some):
            edges = [minus(point, face[0]) for point in face[1:]]
            gram = mpmath.matrix(products(edges, edges))
            if mpmath.det(gram) < mpf(10) ** -40:
                continue
            shares = mpmath.inverse(gram) * mpmath.matrix([-mpmath.fdot(edge, face[0]) for edge in edges])
            if min(shares) >= 0 and mpmath.fsum(shares) <= 1:
                steps = [mpmath.fdot(shares, along) for along in zip(*edges, strict=True)]
                foot = [own + step for own, step in zip(face[0], steps, strict=True)]
                nearest = min(nearest, length(foot))
    return nearest


def seli_labels(counts: tuple[int, ...]) -> Rows:
    """Rows z_c of (I − 11ᵀ/C)."""
    return [[mpf(a == b) - mpf(1) / len(counts) for b in range(len(counts))] for a in range(len(counts))]


def centred_labels(counts: tuple[int, ...]) -> Rows:
    """Rows e_c − π."""
    return [[mpf(a == b) - mpf(counts[b]) / sum(counts) for b in range(len(counts))] for a in range(len(counts))]


@lru_cache(maxsize=4)
def label_gram(kind: str, name: str, counts: tuple[int, ...]) -> Rows:
    """Of Z with n_c columns z_c: (Z Zᵀ)^½ for the classifier, (ZᵀZ)^½ of one example each for the class means."""
    labels = {"seli": seli_labels, "free_bias": centred_labels}[name](counts)
    rooted = [[mpmath.sqrt(own) * entry for entry in row] for own, row in zip(counts, labels, strict=True)]
    if kind == "classifier":
        columns = [list(column) for column in zip(*rooted, strict=True)]
        return square_root(products(columns, columns))
    whole = square_root(products(rooted, rooted))
    return [[entry / mpmath.sqrt(counts[a] * counts[b]) for b, entry in enumerate(row)] for a, row in enumerate(whole)]


def square_root(gram: Rows) -> Rows:
    """Of a Gram matrix of rank C − 1 that class sizes alone determine: float64 is enough."""
    values, vectors = np.linalg.eigh(np.array(gram, dtype=float))
    roots = np.sqrt(np.concatenate([[0.0], values[1:]]))
    return rows_of(((vectors * roots) @ vectors.T).tolist())


def spectrum_of(gram: Rows) -> list[mpf]:
    """Ascending."""
    return sorted(mpmath.eigsy(mpmath.matrix(gram), eigvals_only=True)) if len(gram) > 1 else [gram[0][0]]


def entropy_rank(scales: list[mpf]) -> mpf:
    total = mpmath.fsum(scales)
    return mpmath.exp(-mpmath.fsum(one / total * mpmath.log(one / total) for one in scales if one > 0))


def simplex(count: int) -> Rows:
    return seli_labels((1,) * count)


def apart(gram: Rows, target: Rows) -> mpf:
    """‖G/‖G‖ − T/‖T‖‖."""
    scales = norm(gram), norm(target)
    pairs = [pair for rows in zip(gram, target, strict=True) for pair in zip(*rows, strict=True)]
    return length([a / scales[0] - b / scales[1] for a, b in pairs])


def products(one: Rows, other: Rows) -> Rows:
    return [[mpmath.fdot(a, b) for b in other] for a in one]


def mean_of(rows: Rows) -> list[mpf]:
    return [mpmath.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def minus(one: list[mpf], other: list[mpf]) -> list[mpf]:
    return [a - b for a, b in zip(one, other, strict=True)]


def length(row: list[mpf]) -> mpf:
    return mpmath.sqrt(mpmath.fdot(row, row))


def norm(rows: Rows) -> mpf:
    return mpmath.sqrt(mpmath.fsum(mpmath.fdot(row, row) for row in rows))


def rows_of(entries: list[list[Any]]) -> Rows:
    return [[mpf(entry) for entry in row] for row in entries]
