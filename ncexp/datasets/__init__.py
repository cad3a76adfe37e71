"""conf/dataset: each choice answers a Dataset: a train and a test split of tensors, and the number of classes."""

from ncexp.datasets.dataset import Dataset, Split

__all__ = ["Dataset", "Split"]
