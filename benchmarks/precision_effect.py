"""What another arithmetic of the training steps does to every metric: the main job's last epoch, over several seeds.

    python benchmarks/precision_effect.py [--precision bf16] [--seeds 3] [--json FILE] [--short] [OVERRIDE ...]

For each seed the job is trained in fp32 and in the other arithmetic; evaluation is in fp32. `difference` is between the
two means over the seeds, in units of the standard error that the seeds leave it with: an effect of two or three is what
chance gives now and then among so many metrics. Overrides are Hydra's.
"""

from __future__ import annotations

import statistics

from timing import parser, report
from workloads import configured, evaluated, train_epoch

from ncexp.training import assemble

#: How a name of the record ends that is a rounding error of the measurement itself, and no result.
NO_METRICS = ("epoch", "identity_residual", "path/rank", "path/condition_number")

#: What --short leaves of a run.
SHORT = ["epochs=2", "architecture=mlp", "dataset.examples_per_class=10", "batch_size=32"]


def last_record(overrides: list[str]) -> dict[str, float]:
    """The record after the last epoch."""
    config = configured(*overrides)
    assembly = assemble(config)
    for _ in range(config.epochs):
        train_epoch(assembly)
    return evaluated(assembly, config)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--precision", default="bf16")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("overrides", nargs="*", help="of Hydra, for every run")
    arguments = options.parse_args()
    num_seeds = 2 if arguments.short else arguments.seeds
    overrides = [*arguments.overrides, *(SHORT if arguments.short else [])]
    records = {
        precision: [last_record([f"precision={precision}", f"seed={seed}", *overrides]) for seed in range(num_seeds)]
        for precision in ("fp32", arguments.precision)
    }
    rows: list[dict[str, object]] = []
    for name in records["fp32"][0]:
        if name.endswith(NO_METRICS):
            continue
        samples = [[record[name] for record in of_one] for of_one in records.values()]
        plain, other = map(statistics.mean, samples)
        error = sum(statistics.variance(sample) / num_seeds for sample in samples) ** 0.5
        effect = (other - plain) / error if error else 0.0
        rows.append({"metric": name, "fp32": plain, arguments.precision: other, "difference": f"{effect:+.1f}"})
    report(f"The last epoch, mean of {num_seeds} seeds", rows, arguments.json)


if __name__ == "__main__":
    main()
