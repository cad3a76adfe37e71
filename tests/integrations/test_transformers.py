"""Hugging Face's Trainer with a tiny ViT and a tiny BERT, built from their configurations: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import required
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import ncexp
from ncexp.architectures import ForeignNetwork
from ncexp.datasets import Split, digits
from ncexp.measure.tapped import TappedNetwork
from ncexp.record import State, read_run
from ncexp.training.foreign_checkpoints import read_foreign_weights
from ncexp.training.foreign_files import choose_epochs, find_files

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


class Stream(IterableDataset[Any]):
    """Rows without a length."""

    def __init__(self, rows: list[dict[str, Tensor]]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


def train(
    transformers: Any,
    make: Any,
    folder: Path,
    recorder: ncexp.Recorder | None = None,
    streamed: bool = False,
    **options: Any,
) -> Any:
    transformers.set_seed(0)
    model, rows = make(transformers)
    given = {"output_dir": str(folder / "trainer"), "num_train_epochs": 2, "report_to": [], "save_strategy": "no"}
    given |= {f"per_device_{split}_batch_size": 16 for split in ("train", "eval")}
    given |= {"disable_tqdm": True, "use_cpu": True}
    arguments = transformers.TrainingArguments(**given | options)
    train_rows = Stream(rows) if streamed else rows
    trainer = transformers.Trainer(model, arguments, train_dataset=train_rows, eval_dataset=rows[:40])
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
    options: dict[str, Any] = {"num_classes": num_classes, "classifier": "classifier", "analyses": ["decisions"]}
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GPT2", "Llama"])
def test_features_of_a_decoder_are_of_the_token_that_it_classifies_by(transformers: Any, kind: str) -> None:
    """The last one that is no padding; its `score` sees every token."""
    torch.manual_seed(0)
    sizes = {"GPT2": {"n_embd": 16, "n_layer": 1, "n_head": 2}, "Llama": {**SMALL, "num_key_value_heads": 2}}[kind]
    config = getattr(transformers, f"{kind}Config")(**sizes, vocab_size=20, num_labels=3, pad_token_id=0)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    words, lengths = torch.randint(1, 20, (4, 6)), torch.tensor([6, 2, 4, 1])
    words[torch.arange(6) >= lengths.unsqueeze(1)] = 0
    inputs = {"input_ids": words, "attention_mask": (words != 0).long()}
    logits, features = TappedNetwork(model, "score")(inputs)
    states = model.base_model(**inputs).last_hidden_state
    assert torch.equal(features, states[torch.arange(4), lengths - 1])
    assert torch.equal(logits, model(**inputs).logits)


@pytest.mark.slow
def test_folder_of_a_trainer_is_read_as_it_is(transformers: Any, tmp_path: Path) -> None:
    """Its model.safetensors may have other names than the model's own (5.24, a ViT): its own loader turns them back."""
    trainer = train(transformers, vit, tmp_path, save_strategy="epoch")
    paths = find_files(str(tmp_path / "trainer"))
    wrapped = nn.Sequential()
    wrapped.add_module("model", vit(transformers)[0])
    for model, prefix in ((vit(transformers)[0], ""), (wrapped, "model.")):
        network = ForeignNetwork(model, "vit", (1, 8, 8), 10)
        read = {path: read_foreign_weights(path, network) for path in paths}
        files, lines = choose_epochs(
            {path: one.epochs for path, one in read.items()}, {path: one.digest for path, one in read.items()}, None
        )
        assert {epoch: path.parent.name for epoch, path in files.items()} == {1: "checkpoint-5", 2: "checkpoint-10"}
        assert lines == ["2 files, epochs 1 to 2: the entry epoch of each file"]
        expected = trainer.model.state_dict()
        assert all(torch.equal(read[files[2]].tensors[f"{prefix}{name}"], one) for name, one in expected.items())


def recorded(transformers: Any, folder: Path, **options: Any) -> tuple[Any, Any]:
    """The trainer of a tiny BERT with 60 rows, and its record."""
    chosen: dict[str, Any] = {"num_classes": 4, "classifier": "classifier", "analyses": ["collapse"]}
    with ncexp.Recorder(folder / "mine", decoupled_weight_decay=True, **chosen) as recorder:
        trainer = train(transformers, bert, folder, recorder, **options)
    return trainer, read_run(folder / "mine")


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("steps", "epochs"), [(8, [1, 2]), (10, [1, 2, 3]), (9, [1, 2, 3])])
@pytest.mark.parametrize("streamed", [False, True])
def test_each_pass_of_a_trainer_has_an_epoch_of_its_own(
    transformers: Any, tmp_path: Path, steps: int, epochs: list[int], streamed: bool
) -> None:
    """Four steps a pass; the last one may be cut short, and a stream's own epochs are fractions of max_steps."""
    _, run = recorded(transformers, tmp_path, streamed=streamed, max_steps=steps)
    assert [one["epoch"] for one in run.records] == epochs


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_trainer_in_bfloat16_is_recorded_in_float32_and_left_alone(transformers: Any, tmp_path: Path) -> None:
    """As a loop within autocast is: numbers are those of the same weights in a model that nobody wrapped."""
    options = {"bf16": True, "dataloader_drop_last": True}
    without = train(transformers, bert, tmp_path, **options)
    trainer, run = recorded(transformers, tmp_path, **options)
    assert run.facts["num_train"] == 60  # also those that a pass drops
    weights = trainer.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in without.model.state_dict().items())
    words = torch.stack([row["input_ids"] for row in trainer.train_dataset])
    with torch.autocast("cpu", torch.bfloat16):
        assert trainer.model.eval()(words).logits.dtype == torch.float32  # converted back
    plain, rows = bert(transformers)
    plain.load_state_dict(weights)
    alone = ncexp.Recorder(tmp_path / "alone", num_classes=4, classifier="classifier", analyses=["collapse"])
    numbers = alone.evaluate(2, plain, torch.utils.data.DataLoader(rows, 16))
    assert {name: run.records[-1][name] for name in numbers} == pytest.approx(numbers, nan_ok=True, rel=1e-12, abs=0)
