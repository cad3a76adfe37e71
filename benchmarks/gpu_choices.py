"""What pays on a GPU: layout, optimizer kernels, torch.compile and CUDA graphs, each changed alone.

    python benchmarks/gpu_choices.py [--repeats 5] [--json FILE] [--short] [OVERRIDE ...]

`ours` is what a run does: channels-last, fused optimizer, no compiler. Overrides are Hydra's: `precision=bf16`. On a
CPU the same choices, without CUDA graphs. Where the time of a step goes: `step_profile.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from timing import device, interleaved_medians, parser, report
from workloads import assembled, generated, train_epoch

from ncexp.training import Assembly, Training

BATCH_SIZE = 128
#: --short: one batch of so many.
SHORT_EXAMPLES = 4
ON_GPU = device().type == "cuda"
#: Input, number of examples, overrides.
WORKLOADS: dict[str, tuple[tuple[int, int, int], int, tuple[str, ...]]] = {
    "digits, ResNet-8": ((1, 8, 8), 1400, ()),
    "32×32, ResNet-18": ((1, 32, 32), 12_800 if ON_GPU else 256, ("architecture=resnet18",)),
}


def contiguous(training: Training) -> None:
    """torch's default layout, channels first."""
    training.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def update(kernels: str, training: Training) -> None:
    """The optimizer's update by `foreach`, or, with "single", parameter by parameter."""
    for group in training.optimizer.param_groups:
        group["fused"], group["foreach"] = False, kernels == "foreach"


def compiled(mode: str, training: Training) -> None:
    """torch.compile, with "reduce-overhead" replayed as CUDA graphs."""
    training._forward = torch.compile(training.network, dynamic=False, mode=mode)


CHOICES: dict[str, Callable[[Training], None]] = {
    "ours": lambda training: None,
    "channels first": contiguous,
    "optimizer foreach": partial(update, "foreach"),
    "optimizer one by one": partial(update, "single"),
    "compiled": partial(compiled, "default"),
}
if ON_GPU:
    CHOICES["compiled, CUDA graphs"] = partial(compiled, "reduce-overhead")


def changed(workload: str, choice: str, num_examples: int, overrides: list[str]) -> Assembly:
    """The training of a workload with one choice changed."""
    shape, _, network = WORKLOADS[workload]
    assembly = assembled(generated(num_examples, shape), *network, *overrides)
    CHOICES[choice](assembly.training)
    return assembly


def measure(
    workload: str, choices: list[str], num_examples: int, repeats: int, overrides: list[str]
) -> list[dict[str, object]]:
    """One row for each choice."""
    epochs = {name: partial(train_epoch, changed(workload, name, num_examples, overrides)) for name in choices}
    seconds = interleaved_medians(epochs, repeats)
    steps = -(-num_examples // BATCH_SIZE)
    return [
        {
            "training": workload,
            "choice": name,
            "ms a step": seconds[name] / steps * 1000,
            "steps a second": steps / seconds[name],
            "of ours": seconds[name] / seconds["ours"],
        }
        for name in choices
    ]


def main() -> None:
    options = parser(__doc__, repeats=5)
    options.add_argument("overrides", nargs="*", help="of Hydra, for every training")
    arguments = options.parse_args()
    choices = [name for name in CHOICES if not (arguments.short and "compiled" in name)]
    rows: list[dict[str, object]] = []
    for workload, (_, num_examples, _) in WORKLOADS.items():
        count = SHORT_EXAMPLES if arguments.short else num_examples
        overrides = [*arguments.overrides, f"batch_size={min(BATCH_SIZE, count)}"]
        rows += measure(workload, choices, count, arguments.repeats, overrides)
    report(f"One choice changed at a time, batches of {BATCH_SIZE}", rows, arguments.json)


if __name__ == "__main__":
    main()
