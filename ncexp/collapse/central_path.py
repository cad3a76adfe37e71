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
   c1 log ω + c2 ω² + c3 ω⁴ = a + t, (c1, c2, c3) = (N C², N C, N/4); mode_dynamics.py solves it.

   As t → ∞, ω → (t/c3)^{1/4} for every mode that starts above 0: their ratios tend to 1, and NC1 to NC4 follow. A mode
   at exactly 0 stays there: configurations with such modes are the saddles of the flow.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ncexp.collapse.mode_dynamics import LARGEST, SMALLEST, elapsed_for_growth, log_growth


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
        return self._time_of(level, 0.0 if bool(self._moving.all()) else torch.inf, self.nc1_snr, _omega_of_nc1)

    def time_of_loss(self, level: float) -> float:
        """The first t at which L_LS has fallen to `level`.

        Raises:
            ValueError: the level is above the initial value, or not above 1/(2C) for each mode that is absent or at 0.
        """
        never_learnt = self.num_classes - 1 - int(self._moving.sum())
        return self._time_of(level, never_learnt / (2 * self.num_classes), self.loss, self._omega_of_loss)

    def _time_of(
        self, level: float, floor: float, measure: Callable[[Tensor], Tensor], omega_of: Callable[[float], float]
    ) -> float:
        """Root of the decreasing `measure`, a sum over K modes, between two closed-form times.

        Not before `low`: no mode alone may exceed the whole budget. Not after `high`: K modes with a K-th each fit.
        """
        highest = float(measure(torch.zeros(1, dtype=torch.float64, device=self.initial_singular_values.device)))
        if not floor < level <= highest:
            raise ValueError(
                f"level: expected above {floor} and at most {highest}, the values this path takes, got {level}. "
                "The path starts from its highest value; modes at 0 never move."
            )
        if level == highest:
            return 0.0
        budget = level - floor
        low, high = (self._last_arrival(omega_of(share)) for share in (budget, budget / int(self._moving.sum())))
        if high == torch.inf:
            raise ValueError(f"level: expected one reached at a time that float64 can hold, got {level}. Ask for more.")
        while high - low > 4 * torch.finfo(torch.float64).eps * high:
            times = torch.linspace(low, high, 33, dtype=torch.float64, device=self.initial_singular_values.device)
            above = int((measure(times) > level).sum().clamp(1, 32))
            low, high = float(times[above - 1]), float(times[above])
        return high

    def _last_arrival(self, omega: float) -> float:
        """The time at which the last moving mode has reached ω; 0 if all start beyond it."""
        start = self.initial_singular_values[self._moving]
        growth = (omega / start).log().clamp(min=0)
        return float(self.examples_per_class * elapsed_for_growth(start, growth, self.num_classes).max())

    def _omega_of_loss(self, loss: float) -> float:
        """The ω at which one mode's loss ½/(C + ω²) is `loss`; 0 where it is so from the start."""
        return max(0.5 / loss - self.num_classes, 0.0) ** 0.5

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


def _omega_of_nc1(value: float) -> float:
    """The ω at which one mode's ω⁻² is `value`."""
    return value**-0.5
