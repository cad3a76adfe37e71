"""Lightning: a callback that has a Recorder evaluate the module after its epochs. `pip install ncexp[lightning]`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ncexp.integrations import installed
from ncexp.recorder import Recorder

with installed("lightning"):
    from lightning.pytorch import Callback, LightningModule, Trainer


class RecorderCallback(Callback):
    """Evaluates after the epochs of `evaluate_at` (None: all of them), counted from 1, and logs every number.

    The module's `forward` returns the logits; the Recorder's `classifier` is named as in module.named_modules(). Train
    is the trainer's loader; test is `test_loader`, or the validation loader where none is given.

        with ncexp.Recorder("outputs/mine", num_classes=10, classifier="model.fc") as recorder:
            Trainer(callbacks=[RecorderCallback(recorder)]).fit(module, train_loader, validation_loader)
    """

    def __init__(
        self,
        recorder: Recorder,
        test_loader: Iterable[Any] | None = None,
        evaluate_at: Collection[int] | None = None,
    ) -> None:
        self._recorder, self._test_loader, self._evaluate_at = recorder, test_loader, evaluate_at

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if self._evaluate_at is None or epoch in self._evaluate_at:
            train_loader: Any = trainer.train_dataloader
            test_loader = trainer.val_dataloaders if self._test_loader is None else self._test_loader
            record = self._recorder.evaluate(epoch, pl_module, train_loader, test_loader)
            pl_module.log_dict({name: value for name, value in record.items() if name != "epoch"})
