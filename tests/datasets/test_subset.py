"""The rules that choose training examples and move labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncexp.datasets.subset import choose, mislabel, training_subset


def labels_of(counts: list[int], seed: int = 0) -> torch.Tensor:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.slow
@given(
    sizes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=5),
    seed=st.integers(0, 2**31),
)
def test_choice_has_the_asked_counts_and_follows_the_written_rule(sizes, seed):
    wanted, spare = [w for w, _ in sizes], [s for _, s in sizes]
    labels = labels_of([w + s for w, s in sizes], seed=1)
    chosen = choose(labels, wanted, seed)
    left, by_hand = list(wanted), []
    for index in torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist():
        if left[labels[index]] > 0:
            left[labels[index]] -= 1
            by_hand.append(index)
    assert chosen.tolist() == sorted(by_hand)
    assert len(spare) == len(wanted)


def test_smaller_choice_of_the_same_seed_is_contained_in_a_larger():
    labels = labels_of([20, 30])
    small, large = choose(labels, [5, 5], 3), choose(labels, [12, 9], 3)
    assert set(small.tolist()) < set(large.tolist())
    assert set(small.tolist()) != set(choose(labels, [5, 5], 4).tolist())


def test_long_tail_is_geometric_from_the_largest_class_to_the_smallest():
    labels = labels_of([100] * 5)
    chosen = training_subset(labels, 5, 100, imbalance=16.0, seed=0)
    assert torch.bincount(labels[chosen]).tolist() == [100, 50, 25, 12, 6]  # 100 · 16^(−c/4), rounded: 12.5 → 12


def test_natural_data_are_all_the_data():
    labels = labels_of([3, 9])
    assert training_subset(labels, 2, None, 1.0, seed=5).tolist() == list(range(12))


def test_long_tail_of_natural_data_is_refused():
    with pytest.raises(ValueError, match=r"expected 1\.0 with examples_per_class=null, got 10"):
        training_subset(labels_of([3, 9]), 2, None, 10.0, seed=0)


def test_empty_class_is_refused():
    with pytest.raises(ValueError, match="expected less than 2 × examples_per_class = 8, got 100"):
        training_subset(labels_of([4, 4]), 2, 4, 100.0, seed=0)


def test_class_with_too_few_examples_is_named():
    with pytest.raises(ValueError, match=r"expected at most 4 \(class 1 has no more\), got 6"):
        choose(labels_of([9, 4, 5]), [6, 6, 5], 0)


def test_mislabelled_are_exactly_the_share_and_never_right():
    labels = labels_of([50, 50, 100])
    noisy = mislabel(labels, 3, 0.3, seed=0)
    wrong = noisy != labels
    assert int(wrong.sum()) == 60
    assert set(noisy.tolist()) == {0, 1, 2}
    assert torch.equal(mislabel(labels, 3, 0.3, seed=0), noisy)
    assert not torch.equal(mislabel(labels, 3, 0.3, seed=1), noisy)
    assert torch.equal(mislabel(labels, 3, 0.0, seed=0), labels)


def test_mislabelled_go_to_every_other_class_alike():
    labels = torch.zeros(6000, dtype=torch.int64)
    counts = np.bincount(mislabel(labels, 4, 0.5, seed=0).numpy(), minlength=4)
    assert counts[0] == 3000
    np.testing.assert_allclose(counts[1:], 1000, atol=130)  # five standard deviations of a count, √(3000·⅓·⅔) each
