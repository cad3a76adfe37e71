"""What the paper's whole grid of 750 trainings takes on this device, from a few measured steps of each of its 15 cells.

    python benchmarks/grid_cost.py [--repeats 3] [--json FILE] [--short] [OVERRIDE ...]

A training is 350 epochs of steps and 50 evaluations; a cell is trained at 25 learning rates with two losses. Steps
are of 128 generated images on a GPU, of 16 on a CPU, whose time grows with the examples. Overrides are Hydra's, for
every cell: `precision=bf16`.
"""

from __future__ import annotations

from functools import partial

from timing import device, interleaved_medians, parser, report
from workloads import assembled, configured, evaluated, generated, operations_an_example, train_epoch

from ncexp.config.composing import config_directory

#: Input and number of test images of each dataset, padded as in the presets.
DATASETS = {
    "mnist": ((1, 32, 32), 10_000),
    "fashion_mnist": ((1, 32, 32), 10_000),
    "cifar10": ((3, 32, 32), 10_000),
    "svhn": ((3, 32, 32), 26_032),
    "stl10": ((3, 96, 96), 8_000),
}
TRAININGS_A_CELL, NUM_CLASSES = 50, 10
BATCH_SIZE, NUM_STEPS = (128, 10) if device().type == "cuda" else (16, 1)
SHORT = ("mnist_densenet", "stl10_resnet")


def measure(cell: str, overrides: list[str], repeats: int) -> dict[str, object]:
    """One row: the medians of a step and of an evaluation, and what follows."""
    preset = [f"experiment=han2022/{cell}", *overrides]
    config = configured(*preset)
    shape, num_test = DATASETS[str(config.dataset.options["source"])]
    num_train = NUM_CLASSES * config.dataset.options["examples_per_class"]
    data = generated(BATCH_SIZE * NUM_STEPS, shape, num_test=BATCH_SIZE * NUM_STEPS)
    assembly = assembled(data, *preset, f"batch_size={BATCH_SIZE}")
    contenders = {"train": partial(train_epoch, assembly), "evaluate": partial(evaluated, assembly, config)}
    seconds = interleaved_medians(contenders, repeats)
    step, an_example = seconds["train"] / NUM_STEPS, seconds["evaluate"] / (2 * len(data.train))
    steps = config.epochs * num_train / BATCH_SIZE
    examples = len(config.evaluated) * (num_train + num_test)
    passes = 3 * config.epochs * num_train + examples  # a backward pass is about two forward passes
    hours = (steps * step + examples * an_example) / 3600
    return {
        "cell": cell,
        "network": config.architecture.name,
        "images a second": BATCH_SIZE / step,
        "Pflop a training": passes / 3 * operations_an_example(assembly) / 1e15,
        "h a training": hours,
        "evaluations' share": examples * an_example / 3600 / hours,
        "h, all 50 trainings": TRAININGS_A_CELL * hours,
    }


def main() -> None:
    options = parser(__doc__, repeats=3)
    options.add_argument("overrides", nargs="*", help="of Hydra, for every cell")
    arguments = options.parse_args()
    cells = sorted(path.stem for path in (config_directory() / "experiment" / "han2022").glob("*.yaml"))
    rows = [measure(cell, arguments.overrides, arguments.repeats) for cell in (SHORT if arguments.short else cells)]
    total = sum(float(str(row["h, all 50 trainings"])) for row in rows)
    report(f"The grid of the paper: {total:,.0f} hours for these {len(rows)} cells", rows, arguments.json)


if __name__ == "__main__":
    main()
