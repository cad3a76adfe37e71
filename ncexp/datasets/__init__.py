"""conf/dataset: each choice returns a Dataset: a train and a test split, and the number of classes."""

from ncexp.datasets.dataset import Dataset, Examples, Split, check_data, prepare

__all__ = ["Dataset", "Examples", "Split", "check_data", "prepare"]
