"""Letter recognition and Shuttle in docs/beyond_balanced.md: tables and figures, made from the runs of `sweep=tables`.

    python docs/tables_full.py summary OUTPUTS    # of the runs: docs/summaries/tables.json, five digits
    python docs/tables_full.py page               # of the summary: the tables between the page's marks, and the figures

Numbers are means over the seeds ± their standard deviation (n − 1).
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncexp.measure import load_snapshot
from ncexp.record import RunDirectory, SavedRun, State, load

DOCS = Path(__file__).parent
PAGE, SUMMARY, FIGURES = DOCS / "beyond_balanced.md", DOCS / "summaries" / "tables.json", DOCS / "figures"
DATASETS = ("letter", "shuttle")
LOSSES = {"cross_entropy": "cross-entropy", "mse": "MSE"}
#: Row of the first table → quantity; {last} is the number of classes. Shares are printed in percent.
ROWS = {
    "train error": "train/error",
    "test error": "test/error",
    "NC1": "train/collapse/nc1_trace",
    "NC1 ratio of the largest class": "train/geometry/nc1_1",
    "NC1 ratio of the smallest class": "train/geometry/nc1_{last}",
    "classifier, distance to SELI": "train/geometry/seli_classifier",
    "classifier, distance to the free bias' geometry": "train/geometry/free_bias_classifier",
    "classifier, distance to the simplex": "train/collapse/etf_error_classifier",
    "class means, distance to SELI": "train/geometry/seli_means",
    "class means, distance to the free bias' geometry": "train/geometry/free_bias_means",
    "class means, distance to the simplex": "train/collapse/etf_error_means",
    "minority angle, SELI's classifier": "train/geometry/minority_angle_seli",
    "minority angle, classifier": "train/geometry/minority_angle_classifier",
    "minority angle, class means": "train/geometry/minority_angle_means",
    "one-vs-rest margin, classifier": "train/geometry/margin_classifier",
    "one-vs-rest margin, class means": "train/geometry/margin_means",
    "L": "train/mse/loss",
    "L_NC1": "train/mse/loss_nc1",
    "L_NC2/3": "train/mse/loss_nc23",
    "L_LS⊥": "train/mse/loss_ls_perp",
}
#: Of two of these rows.
RATIO = "L_LS⊥/L_NC1"
#: Of these rows the second table has a column, at the last epoch.
COLUMNS = [
    "test error", "NC1", "classifier, distance to SELI", "classifier, distance to the free bias' geometry",
    "classifier, distance to the simplex", "minority angle, classifier", "one-vs-rest margin, classifier",
]  # fmt: skip
#: Of the figures: part of the network → its three distances, as the rows of ROWS are called.
DRAWN = {"classifier": "classifier, distance to", "class means": "class means, distance to"}
LIMITS = {"SELI": "#332288", "the free bias' geometry": "#009E73", "the simplex": "#888888"}


@dataclass(frozen=True)
class Run:
    """One run of the summary. records: row of ROWS → value, by evaluated epoch."""

    dataset: str
    loss: str
    decay: float
    free_bias: bool
    seed: int
    zero_error_epoch: int | None
    records: dict[int, dict[str, float]]

    @property
    def setting(self) -> tuple[float, bool]:
        return self.decay, self.free_bias

    @property
    def last(self) -> dict[str, float]:
        return self.records[max(self.records)]


# From the runs to the summary


def summary_of(outputs: Path) -> str:
    """The text of the summary: JSON, a line for each evaluated epoch of a run."""
    completed = [run for run in load(outputs) if run.state is State.COMPLETED]
    runs = [run for run in completed if run.choices["dataset"] in DATASETS]
    sizes = {str(run.choices["dataset"]): _sizes(run) for run in runs}
    lines = [line for run in sorted(runs, key=_place) for line in _lines(run)]
    content = ",\n".join(f"  {json.dumps(line, ensure_ascii=False)}" for line in lines)
    head = f' "rows": {json.dumps([*ROWS], ensure_ascii=False)},\n "sizes": {json.dumps(sizes)}'
    return f'{{\n{head},\n "epochs": [\n{content}\n ]\n}}\n'


def _place(run: SavedRun) -> tuple[Any, ...]:
    return tuple(_identity(run).values())


def _identity(run: SavedRun) -> dict[str, Any]:
    optimizer = run.raw["optimizer"]
    bias = (optimizer["decay_of"] or {}).get("classifier.bias", optimizer["weight_decay"])
    return {
        "dataset": run.choices["dataset"],
        "loss": run.choices["loss"],
        "decay": optimizer["weight_decay"],
        "free_bias": bias == 0,
        "seed": run.seed,
    }


def _sizes(run: SavedRun) -> dict[str, dict[str, int]]:
    """Split → class → its examples."""
    directory = RunDirectory(run.path)
    snapshot = load_snapshot(directory.snapshot(max(directory.kept_snapshots())), directory.key)
    names = str(run.facts["classes"]).split(", ")
    return {
        split: dict(zip(names, of_split.of_classes.counts.tolist(), strict=True))
        for split, of_split in snapshot.splits.items()
    }


def _lines(run: SavedRun) -> Iterable[list[Any]]:
    """Identity, zero-error epoch, epoch, and a value for each of ROWS, null where it has none, as the parts of the MSE
    where that is not trained.
    """
    identity = _identity(run)
    lacking = [] if identity["loss"] == "mse" else [name for name in ROWS.values() if "/mse/" in name]
    asked = {int(epoch) for epoch in run.raw["evaluate_at"]} | {run.raw["epochs"]}
    last = f"{run.facts['num_classes']}"
    for record in run.records:
        found = {
            row: math.nan if name in lacking else record.get(name.replace("{last}", last), math.nan)
            for row, name in ROWS.items()
        }
        rounded = [float(f"{value:.5g}") if math.isfinite(value) else None for value in found.values()]
        if record["epoch"] in asked:
            yield [*identity.values(), run.zero_error_epoch, int(record["epoch"]), *rounded]


# From the summary to the page


def read_summary(text: str) -> tuple[list[Run], dict[str, dict[str, dict[str, int]]]]:
    """The runs of the summary, and sizes of classes by data set and split."""
    content = json.loads(text)
    runs: dict[tuple[Any, ...], Run] = {}
    for line in content["epochs"]:
        identity, (zero, epoch), values = tuple(line[:5]), line[5:7], line[7:]
        run = runs.setdefault(identity, Run(*identity, zero, {}))
        run.records[epoch] = {
            row: value for row, value in zip(content["rows"], values, strict=True) if value is not None
        }
        if "L" in run.records[epoch]:
            run.records[epoch][RATIO] = run.records[epoch]["L_LS⊥"] / run.records[epoch]["L_NC1"]
    return [*runs.values()], content["sizes"]


def with_band(values: Sequence[float], row: str) -> str:
    """Mean ± standard deviation of the seeds, three and two digits; of one seed or of equal values the mean alone."""
    scale, unit = (100, " %") if row.endswith("error") else (1, "°") if "angle" in row else (1, "")
    mean, deviation = scale * statistics.fmean(values), scale * statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:.3g} ± {deviation:.2g}{unit}" if deviation > 1e-6 * abs(mean) else f"{mean:.3g}{unit}"


def tables(runs: Sequence[Run], sizes: Mapping[str, Mapping[str, Mapping[str, int]]], dataset: str) -> dict[str, str]:
    """Name of a mark of the page → what stands below it."""
    of_data = [run for run in runs if run.dataset == dataset]
    first = of_data[0].setting
    at = {loss: [run for run in of_data if (run.loss, run.setting) == (loss, first)] for loss in LOSSES}
    return {
        f"{dataset} sizes": _size_table(sizes[dataset]),
        f"{dataset} results": _result_table(at),
        f"{dataset} settings": _setting_table(of_data),
    }


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _size_table(sizes: Mapping[str, Mapping[str, int]]) -> str:
    """Each class, the largest first; of many classes the three largest and the three smallest."""
    names = sorted(sizes["train"], key=lambda name: -sizes["train"][name])
    shown = names if len(names) <= 10 else [*names[:3], "…", *names[-3:]]
    rows = [[name, *(f"{of.get(name, '…')}" for of in sizes.values())] for name in shown]
    rows.append(["all", *(f"{sum(of.values())}" for of in sizes.values())])
    return "\n".join([_row(["class", *sizes]), "|---" + "|---:" * len(sizes) + "|", *map(_row, rows)])


def _result_table(at: Mapping[str, Sequence[Run]]) -> str:
    """Rows of ROWS, for each loss in the first epoch and in the last."""
    lines = [_row(["", *(f"{words}, epoch {min(at[loss][0].records)} → {max(at[loss][0].records)}"
                         for loss, words in LOSSES.items())]), "|---" * (len(LOSSES) + 1) + "|"]  # fmt: skip
    zero = [", ".join(str(run.zero_error_epoch or "–") for run in at[loss]) for loss in LOSSES]
    lines.append(_row(["at most 0.1 % of the train rows wrong, from epoch", *zero]))
    for row in (*ROWS, RATIO):
        cells = [" → ".join(dict.fromkeys(_cells(at[loss], row))) or "–" for loss in LOSSES]
        lines.append(_row([row, *cells]))
    return "\n".join(lines)


def _cells(runs: Sequence[Run], row: str) -> list[str]:
    ends = (min(runs[0].records), max(runs[0].records))
    if any(row not in run.records[epoch] for run in runs for epoch in ends):
        return []
    return [with_band([run.records[epoch][row] for run in runs], row) for epoch in ends]


def _setting_table(runs: Sequence[Run]) -> str:
    """A line for each loss and setting, a column for each of COLUMNS, at the last epoch."""
    heads = [column.replace("classifier, distance to", "to").replace(", classifier", "") for column in COLUMNS]
    lines = [_row(["loss, decay (seeds)", *heads]), "|---" * (1 + len(heads)) + "|"]
    for loss, words in LOSSES.items():
        for decay, free in dict.fromkeys(run.setting for run in runs):
            of_setting = [run for run in runs if (run.loss, run.setting) == (loss, (decay, free))]
            cells = [with_band([run.last[column] for run in of_setting], column) for column in COLUMNS if of_setting]
            setting = f"{words}, {decay:g}{', not of the bias' if free else ''} ({len(of_setting)})"
            lines += [_row([setting, *cells])] if of_setting else []
    return "\n".join(lines)


def page_of(text: str, summary: str) -> str:
    """The page with the summary's tables: each stands between `<!-- NAME -->` and the next empty line."""
    runs, sizes = read_summary(summary)
    for dataset in DATASETS:
        for name, table in tables(runs, sizes, dataset).items():
            text, count = re.subn(
                rf"(<!-- {name} -->\n).*?(?=\n\n|\n*\Z)", lambda found, table=table: found[1] + table, text, flags=re.S
            )
            if count != 1:
                raise ValueError(f"page: expected one mark <!-- {name} -->, got {count}.")
    return text


def draw(runs: Sequence[Run], dataset: str, path: Path) -> None:
    """Distances to the three limits against the epoch, a column for each loss; bands are all seeds."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(DRAWN), len(LOSSES), figsize=(8, 5.6), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for across, (loss, words) in enumerate(LOSSES.items()):
        of_loss = [run for run in runs if (run.dataset, run.loss) == (dataset, loss)]
        seeds = [run for run in of_loss if run.setting == of_loss[0].setting]
        epochs = sorted(seeds[0].records)
        for down, (part, beginning) in enumerate(DRAWN.items()):
            panel = axes[down][across]
            for limit, colour in LIMITS.items():
                values = [[run.records[epoch][f"{beginning} {limit}"] for run in seeds] for epoch in epochs]
                panel.fill_between(epochs, [*map(min, values)], [*map(max, values)], color=colour, alpha=0.25, lw=0)
                panel.plot(epochs, [*map(statistics.fmean, values)], color=colour, marker=".", label=limit)
            panel.set(xscale="log", ylim=(0, 1.3), title=f"{words}, {part}")
            panel.grid(alpha=0.3)
        axes[-1][across].set_xlabel("epoch")
    for line in axes:
        line[0].set_ylabel("distance")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LIMITS))
    figure.suptitle({"letter": "Letter recognition", "shuttle": "Shuttle"}[dataset])
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main(words: Sequence[str]) -> None:
    match words:
        case ["summary", outputs]:
            SUMMARY.parent.mkdir(exist_ok=True)
            SUMMARY.write_text(summary_of(Path(outputs)))
        case ["page"]:
            summary = SUMMARY.read_text()
            PAGE.write_text(page_of(PAGE.read_text(), summary))
            for dataset in DATASETS:
                draw(read_summary(summary)[0], dataset, FIGURES / f"{dataset}.png")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
