"""The table of optimizers in docs/optimizers.md: every public one of this torch, and every choice of conf/optimizer.

    python docs/optimizers_table.py          # prints it; a minute of one core

Each trains one epoch of a tiny network with batch norm by `optimizer=module optimizer._target_=torch.optim.NAME`, or is
refused; is stopped in the second epoch, goes on from a file in another training, and is to end with the weights of one
that was not stopped; and says which λ follows from a decay of 0.01, where it has a decay.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from ncexp.config import ConfigError, check
from ncexp.config.composing import compose_mapping
from ncexp.measure import subject_of
from ncexp.training import Assembly, Interrupted, assemble, load_resume, save_resume

DECAY = 0.01
TINY = [
    "dataset=gaussian_mixture", "dataset.num_classes=4", "dataset.num_features=6", "dataset.examples_per_class=20",
    "architecture=mlp", "architecture.hidden=[8]", "architecture.batch_norm=true", "loss=mse", "epochs=2",
    "batch_size=32", "device=cpu", "tracking.enabled=false",
]  # fmt: skip
#: Choices of conf/optimizer, with the key of their decay.
OURS = {"sgd": "weight_decay", "sign": "weight_decay", "adam": "weight_decay", "adamw": "weight_decay",
        "muon": "weight_decay", "sam": "base.weight_decay", "lbfgs": "weight_decay"}  # fmt: skip
HEAD = "| optimizer | an epoch | stopped and resumed | λ, of a decay of 0.01 and s = 1 |\n" + "|---" * 4 + "|"


def torchs() -> list[str]:
    """The public optimizers of this torch."""
    found = (getattr(torch.optim, name) for name in sorted(dir(torch.optim)))
    return [kind.__name__ for kind in found if isinstance(kind, type) and issubclass(kind, Optimizer)]


def overrides_of(name: str) -> list[str]:
    """What chooses one of torch's, with its decay where it has one, or one of ours."""
    if name in OURS:
        return [f"optimizer={name}", f"optimizer.{OURS[name]}={DECAY}"]
    has_decay = "weight_decay" in inspect.signature(getattr(torch.optim, name)).parameters
    decay = [f"+optimizer.weight_decay={DECAY}"] if has_decay else []
    return ["optimizer=module", f"optimizer._target_=torch.optim.{name}", *decay]


def row_of(name: str) -> str:
    """The row of one optimizer."""
    label = f"`optimizer={name}`" if name in OURS else f"`torch.optim.{name}`"
    raw = compose_mapping("config", [*TINY, *overrides_of(name)])
    try:
        whole = assemble(check(raw))
    except ConfigError as error:
        reason = str(error).partition(": ")[2].rpartition(". ")[0]
        return f"| {label} | refused: {reason} | – | – |"
    first = whole.training.run_epoch(lambda: False)
    verdict = "trains" if math.isfinite(first["fit/loss"]) else "diverges"
    ridge = subject_of(whole).ridge
    whole.training.run_epoch(lambda: False)
    same = "the same bytes" if _equal(_resumed(raw), whole) else "other weights"
    words = ridge.convention.replace(", as the loss is s · ½ Ave ‖logits − one-hot‖² with s = 1", "")
    return f"| {label} | {verdict} | {same} | {words} |"


def _resumed(raw: dict[str, object]) -> Assembly:
    """Two epochs, stopped after the first step of the second, and gone on with by another training."""
    stopped, resumed = assemble(check(raw)), assemble(check({**raw, "seed": 0}))
    stopped.training.run_epoch(lambda: False)
    with suppress(Interrupted):
        stopped.training.run_epoch(lambda: True)
    with tempfile.TemporaryDirectory() as folder:
        path, one, other = Path(folder) / "resume", stopped.training, resumed.training
        save_resume(path, one.network, one.optimizer, one.position, "0123456789")
        other.position = load_resume(path, other.network, other.optimizer, "0123456789")
    resumed.training.run_epoch(lambda: False)
    return resumed


def _equal(one: Assembly, other: Assembly) -> bool:
    states: list[dict[str, Tensor]] = [each.training.network.state_dict() for each in (one, other)]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


if __name__ == "__main__":
    print(HEAD)
    for name in [*OURS, *(one for one in torchs() if one != "Optimizer")]:
        print(row_of(name), flush=True)
