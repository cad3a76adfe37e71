"""The report of the paper's whole grid: 750 runs of 15 cells, two losses and 25 rates; or of a band of seeds.

    python benchmarks/report_cost.py [--seeds 1] [--rates 25] [--profile FILE] [--json FILE] [--short]

Writes the runs without training, as `tests/helpers/synthetic_sweep.py` writes them, with 50 evaluated epochs each, then
runs `ncexp report` on them in a process of its own, and prints the seconds of that process, which do not depend on what
else the machine does, and those of the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import parser, report

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from synthetic_sweep import write_paper

#: Evaluated epochs of a run of the paper.
EPOCHS = [1 + 349 * step // 49 for step in range(50)]


def main() -> None:
    options = parser(__doc__, repeats=1)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--rates", type=int, default=25)
    options.add_argument("--profile", help="write a profile of cProfile there")
    options.add_argument("--keep", type=Path, help="leave the report in this folder")
    arguments = options.parse_args()
    count = 2 if arguments.short else arguments.rates
    rates = [float(f"{1e-4 * 2500 ** (step / 24):.9f}") for step in range(25)][-count:]
    with tempfile.TemporaryDirectory() as name:
        runs, to = Path(name) / "runs", arguments.keep or Path(name) / "report"
        write_paper(runs, rates, arguments.seeds, EPOCHS)
        profile = ["-m", "cProfile", "-o", arguments.profile] if arguments.profile else []
        before, began = os.times(), time.perf_counter()
        command = [sys.executable, *profile, "-m", "ncexp", "report", str(runs), "--to", str(to)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after, wall = os.times(), time.perf_counter() - began
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        figures = len(list(to.rglob("*.pdf")))
    runs_of_all = 30 * count * arguments.seeds
    row: dict[str, object] = {"runs": runs_of_all, "figures": figures, "process, s": spent, "wall, s": wall}
    report("ncexp report", [row], arguments.json)


if __name__ == "__main__":
    main()
