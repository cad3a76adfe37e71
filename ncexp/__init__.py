"""Neural collapse under MSE loss: train, measure, decompose, compare with the central path."""
