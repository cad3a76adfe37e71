"""The central path in closed form (HPD22 section 3 and its theorem).

On the central path the last layer is least-squares optimal for the features at every moment, (W_LS(H), b_LS(H)) with
λ = 0. For balanced classes (N examples in each of C) and Σ_W of full rank, everything there is a function of the SNR
matrix Σ_W^{-1/2} M̄ = U diag(ω) Vᵀ, in three steps.

1. Renormalise. Predictions and loss do not change under h → Ah + a, so take X = Σ_W^{-1/2} H: then Σ_W = I, M̄ is the
   SNR matrix, and Σ_T = I + M̄M̄ᵀ/C.

2. Losses. W_LS = (1/C) M̄ᵀ Σ_T^{-1} = V diag(ω/(C + ω²)) Uᵀ, with b_LS sending μ_G to the class frequencies 1/C. So

       L_NC1   = ½ tr(W_LS Σ_W W_LSᵀ)                    = ½ Σ_j ω_j²/(C + ω_j²)²   within-class scatter of the logits
       L_NC2/3 = ½ (1/C) ‖W_LS M̄ − (I − 11ᵀ/C)‖_F²       = (C/2) Σ_j 1/(C + ω_j²)²  mean logits short of their targets
       L_LS    = L_NC1 + L_NC2/3                          = ½ Σ_j 1/(C + ω_j²)       the mean-squared error itself

   with j = 1..C−1; where P < C − 1 the modes that do not fit have ω_j = 0 and keep their loss 1/(2C). Mode by mode
   L_NC1/L_NC2/3 = ω_j²/C: L_NC1 dominates once collapse sets in.

3. Flow. The gradient flow −∂L/∂x_i = −(1/n) W_LSᵀ (W_LS x_i + b_LS − y_i), projected on {Σ_W = I}, splits into
   - deviations from class means: −(1/n) D W_LSᵀW_LS, which the projection removes entirely (it is D times a symmetric
     matrix), so deviations stand still;
   - class means: dM̄/dt = −(1/n) W_LSᵀ (W_LS M̄ − (I − 11ᵀ/C)) = U diag(1/n · ω/(C+ω²) · C/(C+ω²)) Vᵀ.
   So U and V never turn, and with n = N C every mode follows dω/dt = (1/N) ω/(C + ω²)², that is
   c1 log ω + c2 ω² + c3 ω⁴ = a + t, (c1, c2, c3) = (N C², N C, N/4).

   As t → ∞, ω → (t/c3)^{1/4} for every mode that starts above 0: their ratios tend to 1, and NC1 to NC4 follow. A mode
   at exactly 0 stays there: configurations with such modes are the saddles of the flow.

4. One mode, solved. Separating the variables, (C + ω²)²/ω dω = dt/N, so F(ω(t)) − F(ω(0)) = t/N with
   F(ω) = C² log ω + C ω² + ω⁴/4. Differences of F cancel, so everything here is written in the log growth
   u = log ω(t)/ω(0), term by term: C² u + C ω(0)² (e^{2u} − 1) + ¼ ω(0)⁴ (e^{4u} − 1) = t/N. Divided by C², with
   a = ω(0)²/C, q = a (e^{2u} − 1) and e^{4u} − 1 = (e^{2u} − 1)(e^{2u} + 1):

       g(u) = u + q (1 + a/2 + q/4) = t/(N C²),   g'(u) = (1 + a + q)².

   g is convex and increasing, so Newton's method decreases monotonically to the root from any point above it. It starts
   at the smallest of three such points, at which one of the three terms alone would use up the whole of t. There g is
   at most three times too large: a handful of steps suffice everywhere, and none can diverge.
"""

import math
import struct
from collections.abc import Callable

import torch
from torch import Tensor

SMALLEST, LARGEST = 1e-60, 1e60  # initial ω whose powers, and those of every reachable ω, fit in float64

# A step of relative size 1e-9 leaves an error of its square: below rounding, so it is the last.
_LAST_STEP = 1e-9
_MOST_STEPS = 40
_EARLIEST, _LATEST = 1e-290, 1e300  # times that are looked at for a level
_FLOAT, _BITS = struct.Struct("d"), struct.Struct("q")


def log_growth(initial: Tensor, elapsed: Tensor, num_classes: int) -> Tensor:
    """log ω(t)/ω(0) after time t = N · elapsed, to 1e-13 absolute and to full relative precision near t = 0.

    initial: ω(0) > 0; elapsed: t/N ≥ 0; float64, of shapes that broadcast.
    """
    budget, a = elapsed / num_classes**2, initial.square() / num_classes
    # The smallest u at which u, a(e^{2u} − 1) or (a²/4)(e^{4u} − 1) alone equals the budget, in logarithms.
    zero, ratio = torch.zeros((), dtype=budget.dtype, device=budget.device), budget.log() - a.log()
    quadratic, quartic = torch.logaddexp(ratio, zero) / 2, torch.logaddexp(ratio - (a / 4).log(), zero) / 4
    u = torch.minimum(budget, torch.minimum(quadratic, quartic))
    for _ in range(_MOST_STEPS):
        q = a * torch.expm1(2 * u)
        step = (u + q * (1 + a / 2 + q / 4) - budget) / (1 + a + q).square()
        u = u - step
        if bool((step.abs() <= _LAST_STEP * u).all()):
            return u
    raise AssertionError("Newton's method on a convex increasing function did not settle")


def elapsed_for_growth(initial: Tensor, growth: Tensor, num_classes: int) -> Tensor:
    """t/N in which a mode grows from ω(0) to ω(0) e^u: F(ω(0) e^u) − F(ω(0)), without cancellation; u may be negative.

    initial: ω(0) > 0; growth: u; float64, of shapes that broadcast.
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


def central_path_losses(singular_values: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """L_LS, L_NC1 and L_NC2/3 of the least-squares classifier at λ = 0, from the SNR spectrum alone (HPD22 section 3).

    L_LS = ½ Σ_j 1/(C + ω_j²), L_NC1 = ½ Σ_j ω_j²/(C + ω_j²)², L_NC2/3 = (C/2) Σ_j 1/(C + ω_j²)², j = 1..C−1, of
    ½ Ave_i ‖W h_i + b − y_i‖². Exact for balanced classes and Σ_W of full rank, at any moment of any training.

    Args:
        singular_values: (..., K) float64, K ≤ C−1; modes that are not given count as ω = 0.
        num_classes: C.

    Returns:
        Three tensors of shape (...), float64.

    Raises:
        ValueError: more than C−1 modes.
    """
    missing = num_classes - 1 - singular_values.shape[-1]
    if missing < 0:
        raise ValueError(
            f"singular_values: expected at most {num_classes - 1} modes for {num_classes} classes, "
            f"got {singular_values.shape[-1]}. Pass the spectrum that snr_singular_values returns."
        )
    noise_share = 1 / (num_classes + singular_values.square())
    loss_nc1 = (singular_values * noise_share).square().sum(dim=-1) / 2
    loss_nc23 = num_classes / 2 * (noise_share.square().sum(dim=-1) + missing / num_classes**2)
    return loss_nc1 + loss_nc23, loss_nc1, loss_nc23


class CentralPath:
    """The exact renormalized gradient flow from one SNR spectrum (HPD22, central-path theorem).

    c1 log ω_j + c2 ω_j² + c3 ω_j⁴ = a_j + t with (c1, c2, c3) = (N C², N C, N/4), solved to 1e-12 relative in ω.

    Args:
        initial_singular_values: ω(0), (K,), K ≤ C−1, each 0 or between 1e-60 and 1e60; a mode at 0 stays at 0.
        num_classes: C, at least 2.
        examples_per_class: N, at least 1; it only sets the unit of time.

    Raises:
        ValueError: the spectrum, num_classes or examples_per_class is not as above.
    """

    def __init__(self, initial_singular_values: Tensor, num_classes: int, examples_per_class: int) -> None:
        initial = initial_singular_values.to(torch.float64)
        inside = (initial == 0) | ((initial >= SMALLEST) & (initial <= LARGEST))
        if num_classes < 2:
            raise ValueError(f"num_classes: expected at least 2, got {num_classes}. One class cannot collapse.")
        if examples_per_class < 1:
            raise ValueError(f"examples_per_class: expected at least 1, got {examples_per_class}. Pass N = n/C.")
        if initial.ndim != 1 or not 1 <= len(initial) < num_classes:
            raise ValueError(
                f"initial_singular_values: expected shape (K,) with 1 <= K <= {num_classes - 1}, "
                f"got {tuple(initial.shape)}. Pass one spectrum that snr_singular_values returns."
            )
        if not bool(inside.all()):
            raise ValueError(
                "initial_singular_values: expected each 0 or within 1e-60..1e60, "
                f"got {initial[~inside].tolist()[:5]}. Start from an epoch whose spectrum is defined."
            )
        self.initial_singular_values = initial
        self.num_classes = num_classes
        self.examples_per_class = examples_per_class
        self._moving = initial > 0

    def singular_values(self, times: Tensor) -> Tensor:
        """ω_j(t), (T, K) float64, for times (T,), finite and ≥ 0; the order of modes is that of ω(0).

        Raises:
            ValueError: a time that is negative or not finite, or times not of shape (T,).
        """
        elapsed = self._checked(times)[:, None] / self.examples_per_class
        start = self.initial_singular_values[self._moving]
        values = torch.zeros(len(times), len(self._moving), dtype=torch.float64, device=start.device)
        values[:, self._moving] = start * log_growth(start, elapsed, self.num_classes).exp()
        return values

    def loss(self, times: Tensor) -> Tensor:
        """L_LS(t) = ½ Σ_j 1/(C + ω_j²), (T,) float64."""
        return central_path_losses(self.singular_values(times), self.num_classes)[0]

    def loss_nc1(self, times: Tensor) -> Tensor:
        """L_NC1(t) = ½ Σ_j ω_j²/(C + ω_j²)², (T,) float64."""
        return central_path_losses(self.singular_values(times), self.num_classes)[1]

    def loss_nc23(self, times: Tensor) -> Tensor:
        """L_NC2/3(t) = (C/2) Σ_j 1/(C + ω_j²)², (T,) float64."""
        return central_path_losses(self.singular_values(times), self.num_classes)[2]

    def nc1_snr(self, times: Tensor) -> Tensor:
        """NC1 in its SNR form, Σ_j ω_j⁻² over the K modes, (T,) float64; infinite with a mode at 0."""
        return self.singular_values(times).square().reciprocal().sum(dim=-1)

    def asymptote(self, times: Tensor) -> Tensor:
        """(t/c3)^{1/4}, the law that every moving mode tends to, (T,) float64; same refusals as `singular_values`."""
        return (4 * self._checked(times) / self.examples_per_class) ** 0.25

    def time_of_nc1_snr(self, level: float) -> float:
        """The first t at which Σ_j ω_j⁻² has fallen to `level`.

        Raises:
            ValueError: the level is above the initial value, not positive, or out of reach since a mode stays at 0.
        """
        return self._time_of(level, 0.0 if bool(self._moving.all()) else math.inf, self.nc1_snr)

    def time_of_loss(self, level: float) -> float:
        """The first t at which L_LS has fallen to `level`.

        Raises:
            ValueError: the level is above the initial value, or not above 1/(2C) for each mode that is absent or at 0.
        """
        never_learnt = self.num_classes - 1 - int(self._moving.sum())
        return self._time_of(level, never_learnt / (2 * self.num_classes), self.loss)

    def _time_of(self, level: float, floor: float, measure: Callable[[Tensor], Tensor]) -> float:
        """The first float64 at which `measure`, which falls to `floor`, is at most the level."""

        def at(time: float) -> float:
            return float(measure(torch.tensor([time], dtype=torch.float64, device=self.initial_singular_values.device)))

        if not floor < level <= at(0.0):
            raise ValueError(
                f"level: expected above {floor} and at most {at(0.0)}, the values this path takes, got {level}. "
                "The path starts from its highest value; modes at 0 never move."
            )
        if level == at(0.0):
            return 0.0
        if at(_LATEST) > level:
            raise ValueError(f"level: expected one reached at a time that float64 can hold, got {level}. Ask for more.")
        # The bits of a float, read as an integer, are in the order of positive floats: bisection over all of them.
        low, high = (_BITS.unpack(_FLOAT.pack(time))[0] for time in (_EARLIEST, _LATEST))
        while high - low > 1:
            middle = (low + high) // 2
            above = at(_FLOAT.unpack(_BITS.pack(middle))[0]) > level
            low, high = (middle, high) if above else (low, middle)
        return float(_FLOAT.unpack(_BITS.pack(high))[0])

    def _checked(self, times: Tensor) -> Tensor:
        if times.ndim != 1:
            raise ValueError(f"times: expected shape (T,), got {tuple(times.shape)}. Pass times.reshape(-1).")
        valid = times.isfinite() & (times >= 0)
        if not bool(valid.all()):
            raise ValueError(
                f"times: expected finite t >= 0, got {times[~valid].tolist()[:5]}. "
                "Start the path earlier to look at what came before."
            )
        return times.to(self.initial_singular_values)
