"""Whether the optimizer of a command that chooses none trains every network with every loss: three epochs on digits.

    python benchmarks/default_optimizer.py [--networks resnet50 ...] [--losses mse ...] [--json FILE] [--short]
        [OVERRIDE ...]

Twenty images a class, batches of ten, the step schedule: sixty steps, twenty of them at the whole rate. A cell is the
share of wrong decisions as the steps of the first and of the last epoch met them, or why the training ended. Without
--networks it takes hours of one core: the largest has 58 million parameters. Overrides are Hydra's, as optimizer=sgd.
"""

from __future__ import annotations

from timing import parser, report
from workloads import configured

from ncexp.config.composing import config_directory
from ncexp.training import Diverged, assemble

FEW = ["epochs=3", "batch_size=10", "dataset.examples_per_class=20"]
#: Networks that take no smaller images, and one that is not ours; the others are those of conf/architecture.
OPTIONS = {
    **{f"densenet{depth}": ["dataset.pad=32"] for depth in (121, 169, 201)},
    "torchvision": ["architecture.model=resnet18"],
}
#: They need a function, a library or data of their own.
LEFT_OUT = {"module", "timm", "unconstrained_features"}


def choices(group: str) -> list[str]:
    """The names of its files."""
    return sorted({path.stem for path in (config_directory() / group).glob("*.yaml")} - LEFT_OUT)


def outcome(network: str, loss: str, overrides: list[str]) -> str:
    """The training error of the first and of the last epoch's steps in percent, or the sentence it ended with."""
    words = [f"architecture={network}", f"loss={loss}", *OPTIONS.get(network, []), *FEW, *overrides]
    config = configured(*words)
    training = assemble(config).training
    try:
        errors = [training.run_epoch(lambda: False)["fit/error"] for _ in range(config.epochs)]
    except Diverged as reason:
        return str(reason)
    return f"{errors[0]:.0%} → {errors[-1]:.0%}"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", nargs="*", default=choices("architecture"))
    options.add_argument("--losses", nargs="*", default=choices("loss"))
    options.add_argument("overrides", nargs="*", help="of Hydra, for every run")
    arguments = options.parse_args()
    networks, losses = (["mlp"], ["mse"]) if arguments.short else (arguments.networks, arguments.losses)
    rows: list[dict[str, object]] = [
        {"network": network, **{loss: outcome(network, loss, arguments.overrides) for loss in losses}}
        for network in networks
    ]
    report("Training error, first epoch → third", rows, arguments.json)


if __name__ == "__main__":
    main()
