"""conf/dataset: each choice returns a Dataset: a train and a test split, and the number of classes."""

# ruff: noqa: F401 (what is imported here is the face of the package)

from ncexp.datasets.dataset import Dataset, Examples, Split, check_data, prepare
