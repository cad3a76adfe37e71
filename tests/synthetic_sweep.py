"""Run directories as a sweep leaves them, written without training: plausible journals for tests of what reads them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ncexp.files import write_json
from ncexp.journal import Record

EPOCHS = [1, 2, 3, 5, 8, 12, 17, 24, 35, 50, 71, 101, 144, 206, 293, 350]
RATES = [0.0005, 0.002, 0.007, 0.025, 0.09]
#: Entries of a real journal that the curves below do not model.
OTHERS = ["cdnv", "nc1_ratio", "nc1_snr", "etf_error_means", "self_duality_angle", "self_duality_product", "norm_ratio"]


def configuration(dataset: str, architecture: str, loss: str, rate: float, seed: int, **options: Any) -> dict[str, Any]:
    """What config.yaml holds."""
    schedule = {"name": "step", "_target_": "ncexp.optimizers.step_schedule", "decays": 2, "factor": 0.1}
    sgd = {"name": "sgd", "_target_": "ncexp.optimizers.sgd", "lr": rate, "momentum": 0.9, "schedule": schedule}
    return {
        "dataset": {"name": dataset, "_target_": f"ncexp.datasets.{dataset}", "folder": "data"},
        "architecture": {"name": architecture, "_target_": f"ncexp.architectures.{architecture}", "widths": [16, 32]},
        "loss": {"name": loss, "_target_": f"ncexp.losses.{loss}"},
        "optimizer": sgd,
        "analysis": {"neural_collapse": {"name": "neural_collapse", "_target_": "ncexp.analyses.NeuralCollapse"}},
        "seed": seed,
        "epochs": 350,
        "batch_size": 128,
        "analysis_epochs": EPOCHS,
        "device": "auto",
        "outputs": "outputs",
        "rerun": "failed",
        "tracking": {"enabled": True, "uri": None, "experiment": None, **options},
    }


def curves(rate: float, seed: int, hardness: float, epochs: list[int] = EPOCHS) -> Iterator[Record]:
    """Errors that fall fastest near the rate 0.02, collapse that sets in at zero error, terms that add up to L."""
    noise = random.Random(f"{rate} {seed} {hardness}")
    distance = abs(math.log10(rate / 0.02))
    zero = 12 * (1 + hardness) * (1 + distance**2)
    for epoch in epochs:
        late = max(epoch / zero, 1e-3)
        train = 0.9 * math.exp(-late * 6.8)
        final = 0.03 * (1 + hardness) * (1 + 0.4 * distance**2)
        wobble = 1 + 0.02 * noise.random()
        record = {"epoch": float(epoch), "fit/loss": 0.5 * math.exp(-late), "fit/error": train, "fit/lr": rate}
        for split, factor in (("train", 1.0), ("test", 2.5)):
            collapse = factor * wobble / (1 + late) ** 1.5
            record[f"{split}/loss"] = 0.45 * collapse
            record[f"{split}/error"] = train if split == "train" else (final + 0.8 * math.exp(-late * 3)) * wobble
            record[f"{split}/nc1_trace"] = 3 * collapse**2
            record[f"{split}/nearest_class_center_mismatch"] = 0.5 * collapse**2
            for name in ("equinorm", "equiangularity", "maximal_angle"):
                for what in ("means", "classifier"):
                    record[f"{split}/{name}_{what}"] = (0.4 if what == "means" else 0.3) * collapse**0.7
            record[f"{split}/self_duality"] = collapse
            record |= {f"{split}/{name}": collapse for name in OTHERS}
        terms = {"nc1": 0.3 / (1 + late), "nc23": 0.2 / (1 + late) ** 2.5, "ls_perp": 0.25 / (1 + late) ** 1.8}
        record |= {f"mse/loss_{name}": value * wobble for name, value in terms.items()}
        record["mse/loss_ls"] = record["mse/loss_nc1"] + record["mse/loss_nc23"]
        record["mse/loss"] = record["mse/loss_ls"] + record["mse/loss_ls_perp"]
        record["path/snr_ratio"] = math.nan if epoch < 3 else 1 + 1 / late
        yield record


def write_run(
    folder: Path,
    dataset: str = "digits",
    architecture: str = "resnet",
    loss: str = "mse",
    rate: float = 0.02,
    seed: int = 0,
    state: str = "completed",
    epochs: list[int] = EPOCHS,
    **tracking: Any,
) -> Path:
    """One run directory under `folder`; a diverged or failed one stops early and says why."""
    raw = configuration(dataset, architecture, loss, rate, seed, **tracking)
    key = f"{random.Random(f'{dataset}{architecture}{loss}{rate}{seed}').getrandbits(40):010x}"
    path = folder / f"{dataset}-{architecture}-{loss}_lr{rate:g}_seed{seed}_{key}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(raw))
    write_json(path / "facts.json", {"num_classes": 10, "num_train": 1400, "num_test": 400, "ridge_weight": 5e-4})
    write_json(path / "environment.json", {"host": "a node", "torch": "2"})
    hardness = sum(map(ord, dataset + architecture)) % 7 / 3 + (0.2 if loss == "mse" else 0)
    reached = epochs if state in ("completed", "running") else epochs[: len(epochs) // 2]
    write_journal(path, list(curves(rate, seed, hardness, reached)))
    message = {"diverged": "non-finite loss", "failed": "OutOfMemoryError: 12 GiB"}.get(state, "350 epochs")
    write_status(path, state, message=message)
    return path


def write_journal(path: Path, records: list[Record]) -> None:
    """Journal and clock, a minute an epoch; many at once, so without the journal's care for each line."""
    lines = [{name: _encoded(value) for name, value in r.items()} | {"epoch": int(r["epoch"])} for r in records]
    clock = [{"epoch": e["epoch"], "timestamp_ms": 1_700_000_000_000 + 60_000 * e["epoch"]} for e in lines]
    for name, content in (("journal.jsonl", lines), ("clock.jsonl", clock)):
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in content))


def _encoded(value: float) -> float | str | None:
    return None if math.isnan(value) else str(value) if math.isinf(value) else value


def write_status(path: Path, state: str, message: str = "") -> None:
    """status.json."""
    times = {"started": "2023-11-14T22:13:20+0000", "updated": "2023-11-15T04:03:20+0000"}
    write_json(path / "status.json", {"state": state, **times, "host": "a node", "pid": 1, "message": message})


def write_sweep(folder: Path, datasets: int, architectures: int, rates: list[float], seeds: int = 1) -> list[Path]:
    """datasets × architectures × {mse, cross_entropy} × rates × seeds; the largest rate diverges, one run failed."""
    names = ["mnist", "fashion_mnist", "cifar10", "svhn", "stl10"][:datasets]
    networks = ["vgg11", "resnet18", "densenet40"][:architectures]
    paths = []
    for dataset in names:
        for network in networks:
            for loss in ("mse", "cross_entropy"):
                for rate in rates:
                    for seed in range(seeds):
                        odd = rate == rates[-1] and network == networks[0]
                        state = ("diverged" if loss == "mse" else "failed") if odd else "completed"
                        paths.append(write_run(folder, dataset, network, loss, rate, seed, state))
    return paths
