"""A run's folder from anybody: each command reads it right, or names it and leaves it out, and shows the others."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console
from support import SMALL, compose, train

import ncexp
from ncexp.cli import main
from ncexp.config.composing import compose_mapping
from ncexp.launching.sweep_directory import Entry, SweepDirectory
from ncexp.launching.task import attempt
from ncexp.measure import compare_with_path
from ncexp.record import State, read_run, write_json
from ncexp.record.tensor_file import _digest

CASES, PARTS = 500, 4
#: Seconds after which a command counts as one that waits for ever; it takes milliseconds.
FOR_EVER = 120
#: What stands in place of a value: of another kind, out of all bounds, or with a meaning to somebody who reads on.
VALUES: list[Any] = [
    None, True, -1, 0, 1e308, -1e308, 5e-324, 10**400, 2**63, "", "word", "inf", "1-99999999999", "9-1", "\ud800",
    "\x1b[31m", "../../x", "$\\frac{$", "local:zzz", "2023-11-14 22:13:20+00:00", "killed", [], {}, [[]], {"a": 1},
    {"name": 1}, ["x"], [1, "x"], {"epoch": "x"},
]  # fmt: skip


def as_text(content: Any, path: Path) -> bytes:
    text = yaml.safe_dump(content) if path.suffix == ".yaml" else json.dumps(content)
    return text.encode(errors="surrogatepass")


def replace_value(content: Any, draw: random.Random) -> None:
    """Change one value, somewhere inside: another one, none, or one more."""
    places = []
    left = [content]
    while left:
        one = left.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else []
        places += [(one, key) for key in keys]
        left += [one[key] for key in keys]
    if not places:
        return
    holder, key = draw.choice(places)
    how = draw.random()
    if how < 0.7:
        holder[key] = draw.choice(VALUES)
    elif how < 0.9:
        del holder[key]
    elif isinstance(holder, dict):
        holder[str(draw.choice(VALUES)).encode(errors="replace").decode()] = draw.choice(VALUES)


def change_content(path: Path, draw: random.Random) -> None:
    """A file that still parses: a value of it is another."""
    if path.suffix == ".safetensors":
        change_header(path, draw)
        return
    data = path.read_text()
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in data.splitlines()]
        if lines:
            replace_value(draw.choice(lines), draw)
        path.write_bytes(b"".join(as_text(line, path) + b"\n" for line in lines))
    elif path.suffix in (".json", ".yaml"):
        content = yaml.safe_load(data) if path.suffix == ".yaml" else json.loads(data)
        replace_value(content, draw)
        path.write_bytes(as_text(content, path))
    else:
        path.write_bytes(data.encode()[::-1])


def change_header(path: Path, draw: random.Random) -> None:
    """Of a file of tensors the header, with the digest of what it says then: who can change the one can the other."""
    from safetensors.torch import load, save

    data = path.read_bytes()
    entries = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header = json.loads(entries["__metadata__"]["ncexp"])
    tensors = load(data)
    if draw.random() < 0.3:
        tensors.pop(draw.choice([*tensors]))
    else:
        replace_value(header, draw)
    header["sha256"] = _digest(tensors, header)
    path.write_bytes(save(tensors, metadata={"ncexp": json.dumps(header)}))


def change_bytes(path: Path, draw: random.Random) -> None:
    """A file that was cut, overwritten, or grew."""
    data = path.read_bytes()
    place = draw.randrange(len(data) + 1)
    lines = data.splitlines(keepends=True) or [b""]
    line = draw.choice(lines)
    noise = bytes(draw.randrange(256) for _ in range(4))
    changed = [b"", data[:place], data[:place] + noise + data[place + 4 :], data + line, data.replace(line, b"", 1),
               b"\xff\xfe" + data, b"[" * 5000 + data, b"".join(reversed(lines))]  # fmt: skip
    path.write_bytes(draw.choice(changed))


def change_kind(path: Path, draw: random.Random) -> None:
    """What is no file: a folder, a pipe, nothing, a device, a link to itself; or one without end."""
    path.unlink()
    makers: list[Callable[[], object]] = [
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: None,
        lambda: path.symlink_to("/dev/null"),
        lambda: path.symlink_to(path),
        lambda: (path.touch(), os.truncate(path, 2**40)),
    ]
    draw.choice(makers)()


class Store:
    """A store that takes everything and knows nothing: MLflow itself takes a second for each run."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return {"search_runs": lambda *_, **__: [], "create_run": self._run, "get_run": self._run}.get(
            name, lambda *_, **__: None
        )

    def _run(self, *_: Any, **__: Any) -> Any:
        data = SimpleNamespace(tags={}, params={})
        return SimpleNamespace(info=SimpleNamespace(run_id="0a", lifecycle_stage="active"), data=data)


def write_sweep(outputs: Path, runs: list[Path]) -> None:
    """A sweep that asked for these runs."""
    sweep = SweepDirectory(outputs / "sweeps" / "two_01234567")
    sweep.path.mkdir(parents=True)
    entries = []
    for num, run in enumerate(runs):
        name, _, key = run.name.rpartition("_")
        place = {"directory": str(run), "run": str(run), "job": "local:a:1:2"}
        entries.append(Entry(num=num, name=name, key=key, overrides=["seed=0"], **place))
    sweep.write_entries(entries)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """outputs/ with a sound run, one of another seed that will be changed, and the sweep that asked for both."""
    outputs = tmp_path_factory.mktemp("template") / "outputs"
    words = ["epochs=3", "evaluate_at=[1,2,3]", "keep.checkpoints=evaluated", "device=cpu", "optimizer.lr=0.2",
             "analysis=[collapse,central_path]", "tracking.enabled=false"]  # fmt: skip
    runs = []
    for seed in (0, 1):
        directory = train(compose("config", [*SMALL, *words, f"outputs={outputs}", f"seed={seed}"]))
        directory.log.write_text("said something\n")
        directory.set_job("local:a:1:2")
        directory.identity()
        write_json(directory.environment, {"host": "a", "threads": 1, "torch": "2"})
        comparison = compare_with_path(read_run(directory.path), start_epoch=1)
        assert comparison is not None
        write_json(directory.path_fit, comparison.to_json())
        content = {"experiment_id": "1", "run_id": "0a", "tags": None, "files": {}, "epochs": {"training.jsonl": {}}}
        write_json(directory.tracking, {"the store in outputs": content})
        runs.append(directory.path)
    write_sweep(outputs, runs)
    return outputs


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store that takes everything, no queue, and an end to what waits for ever."""
    monkeypatch.setattr("ncexp.tracking.upload.connect", lambda uri: Store())
    monkeypatch.setattr("ncexp.launching.slurm.jobs_in_queue", dict)
    monkeypatch.setattr("ncexp.launching.slurm.cancel", lambda jobs: None)
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"no end within {FOR_EVER} s"))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def command(word: str, *arguments: object) -> tuple[int, str]:
    """A command's exit code and what it printed; a traceback is no way to end."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main([word, *map(str, arguments)])
    printed.getvalue().encode()
    return code, printed.getvalue()


def rows(frame: Any, key: str) -> set[tuple[Any, ...]]:
    """A run's numbers by epoch and name; an undefined one as a word, which equals itself."""
    part = frame[frame.run == key]
    columns = [part[name].tolist() for name in ("epoch", "split", "family", "quantity", "value")]
    return {(*place, "nan" if value != value else value) for *place, value in zip(*columns, strict=True)}


class Strange:
    """A copy of the template in which something of the second run, or of the sweep, was changed."""

    def __init__(self, template: Path, outputs: Path, number: int) -> None:
        self.draw = random.Random(number)
        shutil.copytree(template, outputs, symlinks=True)
        self.outputs = outputs
        self.sound, self.run = sorted(outputs.glob("*_seed?_*"))
        files = sorted(path for path in self.run.rglob("*") if path.is_file() and ".lock" not in path.name)
        files += [self.run / ".lock", *outputs.glob("sweeps/*/manifest.jsonl")]
        self.file = self.draw.choice(files)
        self.change = self.draw.choice([change_content, change_content, change_content, change_bytes, change_kind])
        self.change(self.file, self.draw)

    @property
    def label(self) -> str:
        """What was changed."""
        return f"{self.change.__name__} {self.file.relative_to(self.outputs)}"

    def check(self, expected: Any, number: int, measuring: dict[str, Any]) -> None:
        """Every command: the sound run is there; the other one is there and right, or named and left out.

        `load`, and those about a sweep, of each case; those that read as `load` does in turn.
        """
        signal.alarm(FOR_EVER)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runs = ncexp.load(self.outputs)
        key, other = (path.name.rpartition("_")[2] for path in (self.run, self.sound))
        read = {run.key for run in runs}
        assert other in read
        left_out = (self.run / "config.yaml").exists() and key not in read  # without one it is no run
        assert left_out == bool(runs.faults)
        assert all(str(self.run) in fault for fault in runs.faults)
        frame = runs.frame()
        assert rows(frame, other) == rows(expected, other)
        if key in read and self.file.suffix not in (".jsonl", ".json"):
            assert rows(frame, key) == rows(expected, key)
        journal = self.file.suffix == ".jsonl"
        self.read(("export", "compare", "sync")[number % 3], left_out)
        self.listing()
        if number % (24 if journal else 48) == 0:
            self.read("report", left_out)
        self.sweep()
        if self.file.suffix == ".safetensors" or (number % 8 < 4 and self.file.suffix in (".jsonl", ".yaml", ".json")):
            self.measure(measuring)
        signal.alarm(0)

    def listing(self) -> None:
        """It reads less than `load`, and may not see a damage; what it sees it names."""
        code, said = command("runs", "--outputs", self.outputs)
        assert self.sound.name in said, said
        assert code == int("left out" in said or " damaged" in said), said
        assert self.run.name in said or not (self.run / "config.yaml").exists(), said

    def read(self, word: str, left_out: bool) -> None:
        """A command that reads as `load` does."""
        words: dict[str, list[object]] = {
            "export": [self.outputs, "--to", self.outputs / "all.csv"],
            "compare": [self.sound, self.run],
            "sync": [self.outputs, "--uri", f"sqlite:///{self.outputs}/store.db"],
            "report": [self.outputs, "--to", self.outputs.parent / "report"],
        }
        code, said = command(word, *words[word])
        if word == "sync":
            assert code == int("not sent" in said), said
        elif word != "compare" or (self.run / "config.yaml").exists():
            assert code == int(left_out), said
        assert not left_out or self.run.name in said

    def sweep(self) -> None:
        """The commands about a sweep."""
        for words in (["status"], ["status", "last"], ["logs", "last"], ["logs", "last", "1"], ["cancel", "last"]):
            code, said = command(*words[:1], "--outputs", self.outputs, *words[1:])
            assert code in (0, 1, 2), said
            if code:
                assert "expected" in said or "damaged" in said or "no such run" in said, said

    def measure(self, measuring: dict[str, Any]) -> None:
        """Of tensors all that can be measured of them; else what its journals lack."""
        changed: dict[str, Any] = {"run": str(self.run), "rerun": "all"}
        if self.file.suffix != ".safetensors":
            changed |= {"rerun": "missing", "analysis": {"collapse": measuring["analysis"]["collapse"]}}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            state = attempt({**measuring, **changed}, Console(file=io.StringIO()))
        assert isinstance(state, State)
        assert "Traceback" not in printed.getvalue(), printed.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("no_rendering", "no_figures")
@pytest.mark.parametrize("part", range(PARTS))
def test_each_command_reads_a_strange_folder_right_or_names_it(template: Path, tmp_path: Path, part: int) -> None:
    expected = ncexp.load(template).frame()
    measuring = compose_mapping("measure", ["run=none", "analysis=[collapse,decisions]", "device=cpu"])
    failed = []
    for number in range(part, CASES, PARTS):
        strange = Strange(template, tmp_path / f"{number}" / "outputs", number)
        try:
            strange.check(expected, number, measuring)
        except Exception as error:
            failed.append(f"{number}: {strange.label}: {type(error).__name__}: {str(error)[:300]}")
        shutil.rmtree(tmp_path / f"{number}", ignore_errors=True)
    assert not failed, f"{len(failed)} of {CASES // PARTS}:\n" + "\n".join(failed)
