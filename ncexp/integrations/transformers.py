"""Hugging Face's Trainer: a callback that has a Recorder evaluate the model after its epochs.

`pip install ncexp[transformers]`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from ncexp.integrations import installed
from ncexp.recorder import Recorder

with installed("transformers"):
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class RecorderCallback(TrainerCallback):
    """Evaluates after the epochs of `evaluate_at` (None: all of them), counted from 1.

    An epoch is a pass through the loader: one that `max_steps` ends early counts, and so does each of a stream, of
    which Trainer's own number of epochs is a fraction of max_steps.

    The model is one that classifies whole examples (`...ForImageClassification`, `...ForSequenceClassification`); the
    Recorder's `classifier` is the name of its last layer. Of decoders that is `score`, and the features are those of
    the token that it classifies by. Train is the Trainer's loader; test is `test_loader`, as
    trainer.get_eval_dataloader() returns it.

        with ncexp.Recorder("outputs/mine", num_classes=10, classifier="classifier") as recorder:
            trainer.add_callback(RecorderCallback(recorder, trainer.get_eval_dataloader()))
            trainer.train()
    """

    def __init__(
        self,
        recorder: Recorder,
        test_loader: Iterable[Any] | None = None,
        evaluate_at: Collection[int] | None = None,
    ) -> None:
        self._recorder, self._test_loader, self._evaluate_at = recorder, test_loader, evaluate_at

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        epoch = math.ceil(state.epoch or 0)  # it is k + steps/(steps of an epoch) within pass k + 1, of streams too
        if self._evaluate_at is None or epoch in self._evaluate_at:
            self._recorder.evaluate(epoch, given["model"], given["train_dataloader"], self._test_loader)
