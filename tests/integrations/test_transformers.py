"""Hugging Face's Trainer with a tiny ViT and a tiny BERT, built from their configurations: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import required
from torch import Tensor

import ncexp
from ncexp.datasets import Split, digits
from ncexp.record import State, read_run

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def transformers() -> Any:
    """Takes seconds to import, and may be missing."""
    required("accelerate")
    return required("transformers")


def vit(transformers: Any) -> tuple[Any, list[dict[str, Tensor]]]:
    data = digits.load(examples_per_class=8)
    assert isinstance(data.train, Split)
    config = transformers.ViTConfig(**SMALL, image_size=8, patch_size=4, num_channels=1, num_labels=10)
    rows = zip(data.train.inputs, data.train.labels, strict=True)
    return transformers.ViTForImageClassification(config), [{"pixel_values": x, "labels": y} for x, y in rows]


def bert(transformers: Any) -> tuple[Any, list[dict[str, Tensor]]]:
    config = transformers.BertConfig(**SMALL, vocab_size=20, max_position_embeddings=8, num_labels=4)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 4
    words = torch.randint(4, 20, (60, 6), generator=generator)
    words[:, 1] = labels  # the second word tells the class
    rows = zip(words, labels, strict=True)
    return transformers.BertForSequenceClassification(config), [{"input_ids": x, "labels": y} for x, y in rows]


def train(transformers: Any, make: Any, folder: Path, recorder: ncexp.Recorder | None = None) -> Any:
    transformers.set_seed(0)
    model, rows = make(transformers)
    options = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=2,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = transformers.Trainer(model, options, train_dataset=rows, eval_dataset=rows[:40])
    if recorder is not None:
        from ncexp.integrations.transformers import RecorderCallback

        trainer.add_callback(RecorderCallback(recorder, trainer.get_eval_dataloader()))
    trainer.train()
    return trainer


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("make", "num_classes"), [(vit, 10), (bert, 4)])
def test_trainers_run_is_recorded_and_left_alone(
    transformers: Any, tmp_path: Path, make: Any, num_classes: int
) -> None:
    without = train(transformers, make, tmp_path)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "classifier": "classifier",
        "analyses": ["collapse", "decisions"],
    }
    with ncexp.Recorder(tmp_path / "mine", decoupled_weight_decay=True, **options) as recorder:
        trainer = train(transformers, make, tmp_path, recorder)
    weights = trainer.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in without.model.state_dict().items())
    run = read_run(tmp_path / "mine")
    assert (run.state, [one["epoch"] for one in run.records]) == (State.COMPLETED, [1, 2])
    assert run.facts["num_test"] == 40
    predicted = trainer.predict(trainer.eval_dataset)
    error = (predicted.predictions.argmax(1) != predicted.label_ids).mean()
    assert run.records[-1]["test/error"] == pytest.approx(error)
    assert run.records[-1]["test/loss"] == pytest.approx(trainer.evaluate()["eval_loss"], rel=1e-5)
