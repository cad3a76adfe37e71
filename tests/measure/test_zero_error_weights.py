"""keep.checkpoints=zero_error: the weights of the first epoch without training error and of the last."""

from __future__ import annotations

import pytest
from support import Compose, train

from ncexp.record import read_run

#: The training error falls to zero somewhere within the epochs.
EASY = [
    *("dataset.separation=5.0", "optimizer/schedule=constant", "optimizer.lr=0.05", "batch_size=16", "epochs=20"),
    *("analysis=[]", "keep.checkpoints=zero_error"),
]


@pytest.mark.slow
def test_weights_of_zero_error_and_of_the_end_are_kept_also_after_a_kill(composed: Compose) -> None:
    directory = train(composed(*EASY), stop_after=19)
    kept_before = directory.kept_checkpoints()
    train(composed(*EASY))
    run = read_run(directory.path)
    assert run.zero_error_epoch is not None
    assert run.zero_error_epoch < 19
    assert kept_before == [run.zero_error_epoch]
    assert directory.kept_checkpoints() == [run.zero_error_epoch, 20]
