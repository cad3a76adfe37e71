"""What the README says of the main job's figures, held against a main job that is trained here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import compose, train

import ncexp
from ncexp.record import Record

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The evaluated epochs of `ncexp`, from the first without training error on; last the whole run's last."""
    outputs = tmp_path_factory.mktemp("main_job")
    train(compose("config", [f"outputs={outputs}"]))
    (saved,) = ncexp.load(outputs)
    return [record for record in saved.records if record["epoch"] >= saved.zero_error_epoch]


def fraction(sentence: str) -> float:
    """The 1/k, or 9/10, at the place of FRACTION in what the README says, whatever its line breaks."""
    pattern = r"\s+".join(re.escape(word) for word in sentence.split()).replace("FRACTION", r"(\d+)/(\d+)")
    found = re.search(pattern, README.read_text())
    assert found, f"README.md: expected the sentence {sentence!r}, got none. It and the test change together."
    return int(found[1]) / int(found[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("NC1 falls to less than FRACTION,", ["collapse/nc1_trace"]),
        (
            "the ETF error of the class means and that of the classifier to less than FRACTION",
            ["collapse/etf_error_means", "collapse/etf_error_classifier"],
        ),
        ("NC3 to less than FRACTION", ["collapse/self_duality"]),
        ("It falls to less than FRACTION of its value at zero error", ["mse/loss_nc1_data"]),
    ],
)
def test_readme_says_how_far_numbers_fall_after_zero_error(records, sentence, names):
    for name in names:
        assert records[-1][f"train/{name}"] < fraction(sentence) * records[0][f"train/{name}"], name


@pytest.mark.slow
def test_readme_says_in_how_many_epochs_the_layer_is_near_the_path(records):
    limit = fraction("L_LS⊥ is below FRACTION of L_NC1")
    near = [record["train/mse/loss_ls_perp"] < limit * record["train/mse/loss_nc1"] for record in records]
    assert near[-1]
    # Epochs between two evaluations that are both near count as near.
    pairs = zip(records, records[1:], near, near[1:], strict=False)
    epochs = sum(after["epoch"] - before["epoch"] for before, after, one, other in pairs if one and other)
    assert epochs > fraction("in more than FRACTION of all epochs") * records[-1]["epoch"]


@pytest.mark.slow
def test_readme_says_what_decay_has_in_l_nc1(records):
    share = records[-1]["train/mse/loss_nc1_decay"] / records[-1]["train/mse/loss_nc1"]
    assert share > fraction("At the last epoch more than FRACTION of L_NC1 is the penalty λ/2")


@pytest.mark.slow
def test_readme_says_that_the_nearest_class_mean_decides_alike(records):
    assert re.search(
        r"NC4 is 0: network and nearest class mean decide every training example\s+alike", README.read_text()
    )
    assert records[-1]["train/collapse/nearest_class_center_mismatch"] == 0


@pytest.mark.slow
def test_class_means_and_classifier_become_equally_long(records):
    for part in ("means", "classifier"):  # docs/digits.md; before, the classifier's rose
        assert records[-1][f"train/collapse/equinorm_{part}"] < records[0][f"train/collapse/equinorm_{part}"] / 2
