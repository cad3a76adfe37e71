"""One mode of the central path: dω/dt = (1/N) ω/(C + ω²)², solved for ω and for t, and what it conserves.

Separating the variables (HPD22, central-path theorem; constants derived in central_path.py):

    (C + ω²)²/ω dω = dt/N,   so   F(ω(t)) − F(ω(0)) = t/N   with   F(ω) = C² log ω + C ω² + ω⁴/4.

Differences of F cancel, so everything here is written in the log growth u = log ω(t)/ω(0), term by term:

    C² u  +  C ω(0)² (e^{2u} − 1)  +  ¼ ω(0)⁴ (e^{4u} − 1)  =  t/N.

Divided by C², with a = ω(0)²/C, q = a (e^{2u} − 1) and e^{4u} − 1 = (e^{2u} − 1)(e^{2u} + 1):

    g(u) = u + q (1 + a/2 + q/4) = t/(N C²),   g'(u) = (1 + a + q)².

g is convex and increasing, so Newton's method decreases monotonically to the root from any point above it. It starts at
the smallest of three such points, at which one of the three terms alone would use up the whole of t. There g is at most
three times too large: a handful of steps suffice everywhere, and none can diverge.
"""

import torch
from torch import Tensor

SMALLEST, LARGEST = 1e-60, 1e60  # initial ω whose powers, and those of every reachable ω, fit in float64

# A step of relative size 1e-9 leaves an error of its square: below rounding, so it is the last.
_LAST_STEP = 1e-9
_MOST_STEPS = 40


def log_growth(initial: Tensor, elapsed: Tensor, num_classes: int) -> Tensor:
    """log ω(t)/ω(0) after time t = N · elapsed, to 1e-13 absolute and to full relative precision near t = 0.

    Args:
        initial: ω(0) > 0, float64, any shape that broadcasts with `elapsed`.
        elapsed: t/N ≥ 0, float64.
        num_classes: C.

    Returns:
        float64 of the broadcast shape.
    """
    budget = elapsed / num_classes**2
    a = initial.square() / num_classes
    u = _upper_bound(budget, a)
    for _ in range(_MOST_STEPS):
        q = a * torch.expm1(2 * u)
        step = (u + q * (1 + a / 2 + q / 4) - budget) / (1 + a + q).square()
        u = u - step
        if bool((step.abs() <= _LAST_STEP * u).all()):
            return u
    raise AssertionError("Newton's method on a convex increasing function did not settle")


def _upper_bound(budget: Tensor, a: Tensor) -> Tensor:
    """The smallest u at which u, a(e^{2u} − 1) or (a²/4)(e^{4u} − 1) alone equals the budget, in logarithms."""
    zero = torch.zeros((), dtype=budget.dtype, device=budget.device)
    ratio = budget.log() - a.log()
    quadratic = torch.logaddexp(ratio, zero) / 2
    quartic = torch.logaddexp(ratio - (a / 4).log(), zero) / 4
    return torch.minimum(budget, torch.minimum(quadratic, quartic))


def elapsed_for_growth(initial: Tensor, growth: Tensor, num_classes: int) -> Tensor:
    """t/N in which a mode grows from ω(0) to ω(0) e^u: F(ω(0) e^u) − F(ω(0)), without cancellation; u may be negative.

    Args:
        initial: ω(0) > 0, float64.
        growth: u, float64, broadcast with `initial`.
        num_classes: C.
    """
    # ω(0)² (e^{2u} − 1) taken at the larger of both ends, so that e^{4u} overflows only where the time does.
    larger, shrinking = (initial * growth.exp().clamp(min=1)).square(), -2 * growth.abs()
    squares = -torch.expm1(shrinking) * larger * growth.sign()
    fourths = -torch.expm1(2 * shrinking) * larger.square() * growth.sign()
    return num_classes**2 * growth + num_classes * squares + fourths / 4


def conserved_differences(singular_values: Tensor, num_classes: int) -> Tensor:
    """F(ω_1) − F(ω_j) for j = 2..K, F(ω) = C² log ω + C ω² + ω⁴/4: constant along the central path.

    dF/dt = 1/N for every mode (HPD22, central-path theorem), so all differences between modes are constants of the
    exact flow, and any F(ω_j) − F(ω_k) is a difference of two entries. Laid against the spectra of a real training they
    test the theory without knowing how epochs map to t. They are evaluated as differences, since F itself cancels.

    Args:
        singular_values: (..., K) float64, ω > 0; nan where a spectrum is undefined, and then the result is nan.
        num_classes: C.

    Returns:
        (..., K−1) float64.

    Raises:
        ValueError: a value that is zero, negative or infinite.
    """
    if bool(((singular_values <= 0) | singular_values.isinf()).any()):
        raise ValueError(
            "singular_values: expected positive finite ω (or nan), got "
            f"values from {float(singular_values.min())} to {float(singular_values.max())}. "
            "A zero mode is a saddle and has no finite F; leave it out."
        )
    first, others = singular_values[..., :1], singular_values[..., 1:]
    squares = (first - others) * (first + others)
    return num_classes**2 * (first / others).log() + squares * (num_classes + (first.square() + others.square()) / 4)
