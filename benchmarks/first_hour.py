"""What somebody does in the first hour, without documentation, by the clock: each task is its files and its commands.

    python benchmarks/first_hour.py [--short] [--keep FOLDER]

A task passes if each of its commands ends with 0. A mistake passes if the command refuses it with 2 and one sentence
that names the next step; the sentence is printed. Nothing is downloaded. --short: the data are smaller and the
trainings are of one epoch. --keep: the folders of the tasks stay there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

WINE = """
from sklearn.datasets import load_wine
wine = load_wine(as_frame=True)
wine.data.assign(kind=[wine.target_names[label] for label in wine.target]).to_csv("wine.csv", index=False)
"""
#: A metric of one's own: the mean length of the features.
METRIC = {
    "lengths.py": """
class FeatureLength:
    needs = "features"

    def __call__(self, evaluation):
        total = count = 0
        for features, _ in evaluation.features():
            total, count = total + float(features.norm(dim=1).sum()), count + len(features)
        yield "length/mean", total / count
""",
    "choices/analysis/lengths.yaml": """
# @package analysis.lengths
name: lengths
_target_: lengths.FeatureLength
""",
}
#: The same small network and data for the trainings of others.
OTHERS = """
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

def data():
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16, torch.tensor(digits.target)
    return TensorDataset(images[:300], labels[:300]), TensorDataset(images[300:600], labels[300:600])

def make(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))
"""
LIGHTNING = """
import lightning, torch
from lightning.pytorch.callbacks import ModelCheckpoint
from others import data, make

class Training(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = make()
    def training_step(self, batch, _):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=5e-4)

saving = ModelCheckpoint(monitor="loss", filename="{epoch}-{loss:.2f}", save_top_k=-1, save_last=True)
trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", logger=lightning.pytorch.loggers.CSVLogger("."),
    callbacks=[saving], enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Training(), torch.utils.data.DataLoader(data()[0], batch_size=50))
"""
TRAINER = """
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification
from others import data

def network(num_classes=10):
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_channels=1, hidden_size=16,
        num_labels=10, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32))

if __name__ == "__main__":
    rows = [{"pixel_values": image, "labels": label} for image, label in data()[0]]
    arguments = TrainingArguments("trained", num_train_epochs=2, save_strategy="epoch", report_to=[], use_cpu=True)
    Trainer(network(), arguments, train_dataset=rows).train()
"""
TIMM = """
import argparse, os, timm, torch
from timm.utils import CheckpointSaver
from others import data

model = timm.create_model("resnet10t", num_classes=10, in_chans=1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=5e-4)
saved = argparse.Namespace(model="resnet10t")
os.makedirs("saved")
saver = CheckpointSaver(model, optimizer, args=saved, checkpoint_dir="saved", max_history=9)
for epoch in range(2):
    for images, labels in torch.utils.data.DataLoader(data()[0], batch_size=50):
        loss = torch.nn.functional.cross_entropy(model(torch.nn.functional.pad(images, [12] * 4)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    saver.save_checkpoint(epoch, metric=-loss.item())
"""
PADDED = """
import torch
from others import data as small
from torch.utils.data import TensorDataset

def data():
    return tuple(TensorDataset(torch.nn.functional.pad(part.tensors[0], [12] * 4), part.tensors[1]) for part in small())
"""
FIGURE = """
import matplotlib
matplotlib.use("Agg")
import ncexp
from matplotlib import pyplot

frame = ncexp.load("outputs").frame(common_epochs=True)
nc1 = frame[(frame.split == "train") & (frame.quantity == "nc1_trace")]
curve = nc1.groupby("epoch").value.agg(["mean", "sem"])
figure, axes = pyplot.subplots(figsize=(3.3, 2.4), layout="constrained")
axes.errorbar(curve.index, curve["mean"], curve["sem"])
axes.set(xlabel="epoch", ylabel="NC1", yscale="log")
figure.savefig("nc1.pdf")
"""
MEASURE = "ncexp measure dataset=module dataset.factory={data} loss=cross_entropy optimizer.weight_decay=5e-4 "


@dataclass(frozen=True)
class Task:
    """What somebody wants; the files that they write for it; what they type; what must be there at the end."""

    wish: str
    commands: list[str]
    files: dict[str, str] = field(default_factory=dict)
    leaves: str = ""


def tasks(epochs: int) -> list[Task]:
    """Those of the first hour; epochs: of the trainings by ncexp."""
    sweep = f"ncexp -m dataset=table dataset.path=wine.csv dataset.label=kind architecture=mlp epochs={epochs}"
    others, small = {"others.py": OTHERS}, f"ncexp -m architecture=mlp seed=0,1 epochs={epochs}"
    module = "architecture=module architecture.factory="
    return [
        Task(
            "my CSV, three seeds, two losses, error bars",
            ["python make.py", f"{sweep} loss=mse,cross_entropy seed=0,1,2", "ncexp report"],
            {"make.py": WINE},
            "report/figures/*.pdf",
        ),
        Task(
            "a metric of mine on finished runs",
            [small, "ncexp measure --config-dir choices 'digits-mlp*' analysis=lengths",
             "ncexp export outputs --to all.csv", "grep -q length all.csv"],
            METRIC,
            "all.csv",
        ),
        Task(
            "a folder of Lightning's checkpoints",
            ["python train.py", MEASURE.format(data="others.data") + f"checkpoints=lightning_logs {module}others.make"],
            {**others, "train.py": LIGHTNING},
            "outputs/*/measurements/*.jsonl",
        ),
        Task(
            "a folder of Hugging Face's Trainer",
            ["python train.py", MEASURE.format(data="others.data") + f"checkpoints=trained {module}train.network"],
            {**others, "train.py": TRAINER},
            "outputs/*/measurements/*.jsonl",
        ),
        Task(
            "a folder of timm's",
            ["python train.py", MEASURE.format(data="padded.data") + "checkpoints=saved checkpoint.key=state_dict "
             "architecture=timm architecture.model=resnet10t +architecture.in_chans=1"],
            {**others, "padded.py": PADDED, "train.py": TIMM},
            "outputs/*/measurements/*.jsonl",
        ),
        Task("a figure for one column of a paper", [small, "python figure.py"], {"figure.py": FIGURE}, "nc1.pdf"),
    ]  # fmt: skip


#: A realistic slip → what its refusal must name.
MISTAKES = {
    "ncexp lr=0.1": "optimizer.lr",
    "ncexp loss=MSE": "mse",
    "ncexp architecture=resnet-18": "resnet18",
    "ncexp --epochs 5": "epochs=5",
    "ncexp seed=0,1": "-m",
    "ncexp dataset=mnist": "ncexp prepare dataset=mnist",
    "ncexp dataset=table dataset.path=missing.csv dataset.label=kind": "missing.csv",
    "ncexp measure digits": "digits",
    "ncexp report nowhere": "nowhere",
    "ncexp epochs=0": "epochs",
    "ncexp optimizer.momentum=1.5": "momentum",
    "ncexp -m seed=0,1 hydra/launcher=slrum": "slurm",
}


def carry_out(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As somebody types it, in bash."""
    path = (
        os.environ["PATH"]
        if shutil.which("ncexp")
        else f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATH": path}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def attempt(task: Task, folder: Path) -> tuple[float, str]:
    """Seconds, and what went wrong; empty if nothing did."""
    for name, text in task.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
    began = time.monotonic()
    for command in task.commands:
        done = carry_out(command, folder)
        if done.returncode != 0:
            return time.monotonic() - began, f"{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    seconds = time.monotonic() - began
    return seconds, "" if any(folder.glob(task.leaves)) else f"nothing is called {task.leaves}"


def refusal(command: str, names: str, folder: Path) -> tuple[str, str]:
    """What a mistake's refusal says, and what is wrong with it; empty if nothing is."""
    done = carry_out(command, folder)
    said = done.stderr.strip()
    if done.returncode != 2:
        return said, f"exit code {done.returncode}"
    if "Traceback" in said or names not in said:
        return said, f"nothing of {names}"
    return said, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        top = given.keep or Path(temporary)
        for place, task in enumerate(tasks(1 if given.short else 40)):
            (folder := top / f"task{place}").mkdir(parents=True)
            seconds, wrong = attempt(task, folder)
            print(f"{seconds:6.1f} s  {'FAILED' if wrong else 'done  '}  {task.wish}", flush=True)
            failed += bool(wrong)
            print(*wrong.splitlines(), sep="\n          ") if wrong else None
        (folder := top / "mistakes").mkdir()
        for command, names in MISTAKES.items():
            said, wrong = refusal(command, names, folder)
            print(
                f"          {f'FAILED ({wrong})' if wrong else 'refused'}  {command}\n              {said}", flush=True
            )
            failed += bool(wrong)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
