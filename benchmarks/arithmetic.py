"""ResNet-18 on 50,000 images of 32×32: an epoch in every arithmetic, and what share of the device's matrix rate it is.

    python benchmarks/arithmetic.py [--repeats 5] [--json FILE] [--short]

The matrix rate is measured in the same run: square matrices, multiplied in the same arithmetic. The operations of a
step are counted by torch.utils.flop_counter: additions and multiplications of convolutions and matrix products, forward
and backward. On a CPU an epoch is scaled up from a few hundred images, and bf16 is left out where it has no
instructions for it.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import torch
from timing import bf16_pays, device, interleaved_medians, parser, report
from workloads import assembled, generated, operations_an_example, train_epoch

from ncexp.config import Precision
from ncexp.training.machine import rounding

SHAPE, NUM_EXAMPLES = (3, 32, 32), 50_000
ON_GPU = device().type == "cuda"
PRECISIONS: tuple[Precision, ...] = ("fp32", *(["tf32"] if ON_GPU else []), *(["bf16"] if bf16_pays() else []))
MATRIX = 8192 if ON_GPU else 2048


#: --short: so many images, a batch of them, and matrices of this size.
SHORT_EXAMPLES, SHORT_MATRIX = 4, 64


def multiply(precision: Precision, matrix: torch.Tensor) -> None:
    """One product of square matrices."""
    with rounding(precision):
        torch.mm(matrix, matrix)


def main() -> None:
    arguments = parser(__doc__, repeats=5).parse_args()
    num_examples = SHORT_EXAMPLES if arguments.short else NUM_EXAMPLES if ON_GPU else 256
    size = SHORT_MATRIX if arguments.short else MATRIX
    batches = f"batch_size={min(128, num_examples)}"
    data = generated(num_examples, SHAPE)
    compiled = (False,) if arguments.short else (False, True)
    trainings, products = {}, {}
    for precision, compile in product(PRECISIONS, compiled):
        choice = (f"precision={precision}", f"compile={str(compile).lower()}")
        trainings[choice] = assembled(data, "architecture=resnet18", batches, *choice)
    for precision in PRECISIONS:
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        matrix = torch.randn(size, size, device=device(), dtype=kind)
        products[f"precision={precision}"] = partial(multiply, precision, matrix)
    operations = operations_an_example(next(iter(trainings.values())))
    epochs = {" ".join(choice): partial(train_epoch, assembly) for choice, assembly in trainings.items()}
    seconds = interleaved_medians({**products, **epochs}, arguments.repeats)
    rows = []
    for choice in trainings:
        rate = num_examples / seconds[" ".join(choice)]
        matrix_rate = 2 * size**3 / seconds[choice[0]]
        rows.append(
            {
                "training": " ".join(choice),
                "s an epoch": NUM_EXAMPLES / rate,
                "images a second": rate,
                "Tflop/s": rate * operations / 1e12,
                "matrix product, Tflop/s": matrix_rate / 1e12,
                "share": rate * operations / matrix_rate,
            }
        )
    report(f"ResNet-18, batches of 128, {operations / 1e9:.3g} Gflop an image and step", rows, arguments.json)


if __name__ == "__main__":
    main()
