"""The words of a small training with every augmentation."""

#: Eight steps an epoch, in a tenth of a second.
STEPS = [
    "dataset=digits", "dataset.examples_per_class=12", "dataset.test_examples_per_class=5", "batch_size=16",
    "architecture=mlp", "architecture.hidden=[16,8]", "loss=mse", "optimizer=sgd_digits", "optimizer.lr=0.01",
    "epochs=4", "evaluate_at=[1,2]", "device=cpu", "tracking.enabled=false", "keep.checkpoints=evaluated",
]  # fmt: skip
AUGMENTED = [*STEPS, "dataset.augment=[{crop:{padding:2}},flip,randaugment,noise,cutout,mixup,cutmix]"]
