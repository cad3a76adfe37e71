"""all_reduce over gloo: 2 and 3 processes with unequal shards, one of them empty, equal the single process."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ncexp.collapse import ClassStatisticsAccumulator, class_statistics

# Sums of a few hundred numbers, in another order.
ROUNDING = 1e-12
NUM_CLASSES, NUM_FEATURES, NUM_EXAMPLES = 5, 7, 200
# Where the shards of 2 and of 3 processes end: unequal, and the last of three is empty.
ENDS = {2: (60, 200), 3: (151, 200, 200)}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Sorted by class, so that no shard but the whole has every class.
    labels = torch.randint(NUM_CLASSES, (NUM_EXAMPLES,), generator=generator).sort().values
    noise = torch.randn(NUM_EXAMPLES, NUM_FEATURES, generator=generator, dtype=torch.float64)
    return 3 + labels[:, None] + noise, labels


def messages_of(*calls) -> list[str]:
    answers = []
    for call in calls:
        try:
            call()
            answers.append("")
        except ValueError as refusal:
            answers.append(str(refusal))
    return answers


def work(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    features, labels = data()
    shard = slice((0, *ENDS[world_size])[rank], ENDS[world_size][rank])
    accumulator = ClassStatisticsAccumulator(NUM_CLASSES, NUM_FEATURES)
    accumulator.update(features[shard], labels[shard])
    accumulator.all_reduce()
    statistics = accumulator.compute()

    coarse = ClassStatisticsAccumulator(NUM_CLASSES, NUM_FEATURES)
    coarse.update(features[shard].to(torch.float32 if rank == 0 else torch.float64), labels[shard])
    coarse.all_reduce()
    assert coarse.compute().feature_eps == torch.finfo(torch.float32).eps  # the coarsest of all processes

    noted = ClassStatisticsAccumulator(NUM_CLASSES, NUM_FEATURES)
    noted._invalid[0] = rank == world_size - 1  # what one process found on its GPU, all must refuse
    noted.all_reduce()
    refusals = messages_of(
        accumulator.all_reduce,
        ClassStatisticsAccumulator(NUM_CLASSES, NUM_FEATURES + rank).all_reduce,
        noted.compute,
    )
    torch.save((vars(statistics), refusals), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def answers(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("meeting")
    forked = multiprocessing.get_context("fork")  # which import nothing
    processes = [forked.Process(target=work, args=(rank, request.param, folder)) for rank in range(request.param)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * request.param
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.slow
def test_all_reduce_equals_the_single_process_on_every_process(answers):
    expected = vars(class_statistics(*data(), NUM_CLASSES))
    for statistics, _ in answers:
        for name, value in expected.items():
            torch.testing.assert_close(statistics[name], value, rtol=ROUNDING, atol=ROUNDING)
            torch.testing.assert_close(statistics[name], answers[0][0][name], rtol=0, atol=0)


@pytest.mark.slow
def test_all_reduce_refuses_a_second_time_and_shares_what_was_noted(answers):
    for _, (again, sizes, noted) in answers:
        assert "all_reduce: expected sums of one process, got those of all" in again
        assert f"got C from 5 to 5, P from 7 to {6 + len(answers)}" in sizes
        assert "features: expected finite values" in noted
