"""Where a training step's time goes: torch's operators, summed over an epoch, by what they belong to.

    python benchmarks/step_profile.py [--json FILE] [--short] [OVERRIDE ...]

Time within the operators themselves (on a GPU, of their kernels), from torch.profiler, which slows small operators
down; `elsewhere` is what of the epoch is in none: Python, and the profiler. MNIST-sized images and the small ResNet, if
no override says otherwise.
"""

from __future__ import annotations

import time
from collections import Counter

from timing import device, parser, report
from torch.profiler import ProfilerActivity, profile
from workloads import assembled, generated, train_epoch

SHAPE, NUM_EXAMPLES, WARM_EPOCHS = (1, 28, 28), 2560, 3
#: Parts of an operator's name → what it belongs to; the first that fits.
GROUPS = {
    "convolution_backward": "convolutions, backward",
    "conv": "convolutions, forward",
    "batch_norm": "batch normalisation",
    "threshold": "ReLU",
    "clamp_min": "ReLU",
    "aten::add": "sums of branches and gradients",
    "sgd": "optimizer",
    "Optimizer": "optimizer",
    "index": "the batch's examples",
    "randperm": "the batch's examples",
}


def group(name: str) -> str:
    """Of an operator."""
    return next((group for part, group in GROUPS.items() if part in name), "all other operators")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("overrides", nargs="*", help="of Hydra")
    arguments = options.parse_args()
    num_examples = 256 if arguments.short else NUM_EXAMPLES
    assembly = assembled(generated(num_examples, SHAPE), *arguments.overrides)
    for _ in range(WARM_EPOCHS):
        train_epoch(assembly)
    on_gpu = device().type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiled:
        began = time.perf_counter()
        train_epoch(assembly)
        total = time.perf_counter() - began
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        spent[group(event.key)] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
    spent["elsewhere"] = max(0.0, total - spent.total())
    steps = -(-num_examples // assembly.training.batch_size)
    rows: list[dict[str, object]] = [
        {"what": what, "ms a step": seconds / steps * 1000, "share, %": 100 * seconds / total}
        for what, seconds in spent.most_common()
    ]
    report(f"A step of {total / steps * 1000:.1f} ms under the profiler", rows, arguments.json)


if __name__ == "__main__":
    main()
