"""Commands beside the run that look at one choice: prepare a dataset, list architectures."""
