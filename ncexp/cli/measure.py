"""`ncexp measure RUN...` or `ncexp measure checkpoints=...`: analyses of what is there; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ncexp.cli.words import command_parser
from ncexp.config import ConfigError
from ncexp.config.composing import compose_mapping, quoted
from ncexp.record import named_runs

HELP = """\
Measure stored runs further, from the snapshots and weights that they kept.
Without analysis=...: what each run was trained with, at the epochs that lack
it. All is checked first; one run's failure stops no other; the same command
again does what is left.

  ncexp measure checkpoints='ckpts/*.pt' dataset=cifar10 loss=mse \\
    architecture=torchvision architecture.model=resnet18 \\
    optimizer.weight_decay=5e-4

measures what another training left, into a run directory like any other
(docs/anybody.md).
"""

#: Keys whose values are paths, patterns or names in files of others.
PATTERNS = ("checkpoints", "checkpoint.epoch", "checkpoint.key", "checkpoint.prefix")


def composed(arguments: list[str]) -> tuple[str, list[str]]:
    """Which configuration of conf/ is composed, and with which overrides; of stored runs as a sweep over them."""
    parser = command_parser("measure", HELP)
    parser.add_argument(
        "words", nargs="*", metavar="RUN | NAME=VALUE",
        help="a run's directory, name or key, a beginning of either, a glob; a sweep; a folder of runs; and overrides: "
        "analysis=[robustness,layers] device=cpu rerun=all hydra/launcher=slurm",
    )  # fmt: skip
    parser.add_argument("-m", "--multirun", action="store_true", help="not needed: RUNs are measured as a sweep")
    parser.add_argument("--config-dir", help="a folder of choices of one's own")
    given = parser.parse_intermixed_args(arguments)
    folder = ["--config-dir", given.config_dir] if given.config_dir else []
    if any(word.startswith("checkpoints=") for word in given.words):
        return "checkpoints", [*folder, *_of_checkpoints(given.words, given.multirun)]
    overrides = [word for word in given.words if "=" in word or word.startswith("~")]
    runs = _named_runs([word for word in given.words if word not in overrides], overrides)
    chosen = "run=" + ",".join(quoted(str(run)) for run in runs)
    return "measure", [*folder, "-m", *overrides, chosen]


def _of_checkpoints(words: Sequence[str], multirun: bool) -> list[str]:
    """The overrides, patterns in quotes. Raises ConfigError for runs beside them, and for a sweep."""
    if others := [word for word in words if "=" not in word and not word.startswith("~")]:
        raise ConfigError(f"RUN: expected none beside checkpoints=..., got {others[0]}. Measure stored runs apart.")
    if multirun or any(word.startswith("hydra/launcher=") for word in words):
        raise ConfigError(
            "checkpoints: expected one set of files, measured here, got a sweep. Leave out -m and launcher."
        )
    return [_pattern_as_it_is(word) for word in words]


def _pattern_as_it_is(word: str) -> str:
    """In quotes where its value may hold what Hydra's grammar would read otherwise."""
    name, _, value = word.partition("=")
    return f"{name}={quoted(value)}" if name in PATTERNS and value != "null" and value[:1] not in "'\"" else word


def _named_runs(words: Sequence[str], overrides: Sequence[str]) -> list[Path]:
    """The run directories that RUN... mean, each once. Raises ValueError where there is none."""
    if not words:
        raise ConfigError(
            "RUN: expected a run's directory, name or key, a sweep, or a folder of runs, got none. `ncexp measure "
            "outputs` measures all runs there."
        )
    where = [override for override in overrides if override.startswith("outputs=")]
    outputs = Path(compose_mapping("measure", [*where, "run=none"])["outputs"])
    return named_runs(words, outputs)
