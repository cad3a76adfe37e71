"""A file of a run may come from anybody: it is what it must be, or it is named, at once and in little memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ncexp.record import DamagedFile, Journal, RunDirectory, contents
from ncexp.record.contents import read_config, read_facts, read_manifest, read_status
from ncexp.record.files import LARGEST_FILE, open_file, read_file

CHOICE = {"name": "a", "_target_": "b"}
TRACKING = {"enabled": True, "uri": None, "experiment": None}
CONFIG: dict[str, Any] = {"dataset": CHOICE, "architecture": CHOICE, "loss": CHOICE, "optimizer": {**CHOICE, "lr": 0.1},
                          "seed": 0, "epochs": 3, "evaluate_at": [1], "analysis": {}, "tracking": TRACKING}  # fmt: skip
STATUS: dict[str, Any] = {"state": "completed", "started": "2023-11-14T22:13:20+0000",
                          "updated": "2023-11-15T04:03:20+0000", "message": "", "epoch": 3,
                          "record": {"training.jsonl": 4}}  # fmt: skip
TASK: dict[str, Any] = {"num": 0, "name": "a", "key": "b", "directory": "c", "run": "c", "overrides": [], "job": None}
#: The name of a reader → a file that it takes, and files of the right kinds that are wrong inside.
READERS: dict[str, list[dict[str, Any]]] = {
    "status": [STATUS, {**STATUS, "state": "killed"}],
    "facts": [{"num_classes": 2, "smallest_class": 2, "largest_class": 2, "num_features": 3}],
    "environment": [{"threads": 1}],
    "job": [{"job": "local:a:1:2", "submission": None}, {"job": "-x"}],
    "identity": [{"id": "0a"}, {"id": "a b"}],
    "path_fit": [
        {"start_epoch": 1, "excluded_epochs": [], "records": [{"epoch": 1, "x": 0.5, "y": None}]},
        {"start_epoch": 1, "excluded_epochs": [], "records": [{"epoch": 1, "x": "word"}]},
        {"start_epoch": 1, "excluded_epochs": [], "records": [{"epoch": 1.5}]},
    ],
    "origin": [{"files": {"3": {"sha256": "0a"}}}, {"files": {"three": {"sha256": "0a"}}}, {"files": {"3": {}}}],
    "measurement": [
        {"analysis": "a", "target": "b", "options": {}, "version": 1, "began": 0.5},
        {"analysis": "a", "target": "b", "options": {}, "version": 1},
        {"analysis": "a", "target": "b", "options": {}, "version": 1, "began": 0.5, "more": 1},
    ],
}


def test_no_file_that_is_none_is_waited_for_or_read_without_end(tmp_path: Path) -> None:
    folder, pipe, device, loop, large = (tmp_path / name for name in ("folder", "pipe", "device", "loop", "large"))
    folder.mkdir()
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    large.touch()
    os.truncate(large, 2**40)
    for path in (folder, pipe, device, loop, large):
        for read in (read_file, lambda path: Journal(path).read()):
            with pytest.raises(DamagedFile, match=f"{path}: expected"):
                read(path)
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none")
    (tmp_path / "a").write_bytes(b"abc")
    assert read_file(tmp_path / "a", most=3) == b"abc"
    with pytest.raises(DamagedFile, match="expected at most 2 bytes, got 3"):
        read_file(tmp_path / "a", most=2)
    assert LARGEST_FILE > 2**25


@pytest.mark.parametrize("reader", READERS)
def test_file_holds_what_its_readers_rely_on_or_is_named(tmp_path: Path, reader: str) -> None:
    path, (content, *others) = tmp_path / "one.json", READERS[reader]
    read: Callable[[Path], Any] = getattr(contents, f"read_{reader}")
    if reader == "facts":
        read = lambda path: read_facts(path, sizes=True)  # noqa: E731
    assert not read(path)
    path.write_text(json.dumps(content))
    assert read(path) == content or read(path) == content.get("id")
    for name, value in content.items():
        wrong = [[], {}, "\ud800", 10**400, True] if value is None else [None, [[]], "\ud800", 10**400, -1.5]
        is_number = isinstance(value, int | float)
        wrong = [one for one in wrong if type(one) is not type(value) and not (is_number and isinstance(one, float))]
        others += [{**content, name: one} for one in wrong]
    for other in others:
        path.write_text(json.dumps(other))
        with pytest.raises(DamagedFile, match=f"{path}: "):
            read(path)


@pytest.mark.parametrize(
    ("place", "value"), [("started", "2023-11-14T22:13:20"), ("updated", "yesterday"), ("record", [4])]
)
def test_status_that_parses_and_is_wrong_is_named(tmp_path: Path, place: str, value: Any) -> None:
    """A time without a zone, no time at all, counts of no journals."""
    path = tmp_path / "status.json"
    path.write_text(json.dumps({**STATUS, place: value}))
    with pytest.raises(DamagedFile, match=f"{path}: "):
        read_status(path)
    for state in contents.WRITTEN:
        path.unlink()
        RunDirectory(tmp_path).set_status(state)
        assert RunDirectory(tmp_path).state() is state


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("optimizer", {**CHOICE, "lr": lr}) for lr in ("fast", 10**400)),
        *(
            ("dataset", choice)
            for choice in ({"_target_": "b"}, {**CHOICE, "name": 3}, {**CHOICE, "name": "$\\frac{$"})
        ),
        *(("seed", seed) for seed in ("one", True)),
        *(("tracking", tracking) for tracking in ([], {"enabled": True}, {**TRACKING, "enabled": "no"})),
        *(("regime", ["plain"]), ("analysis", "\ud800")),
    ],
)
def test_configuration_that_parses_and_is_wrong_is_named(tmp_path: Path, place: str, value: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert read_config(path) == CONFIG
    path.write_bytes(json.dumps({**CONFIG, place: value}).encode(errors="surrogatepass"))  # JSON is YAML
    with pytest.raises(DamagedFile, match=f"{path}: expected"):
        read_config(path)


def repeated(line: str, first: str, count: int = 30) -> str:
    """YAML of a line that names the one before twice, and so on."""
    return "\n".join(
        [f"x0: &a0 {first}", *(f"x{k}: &a{k} " + line.replace("*", f"*a{k - 1}") for k in range(1, count))]
    )


#: What grows while it is read, or is no value of a configuration.
ODD = {
    "aliases": repeated("[*, *]", "[1]"),
    "merges": repeated("{<<: [*, *]}", "{a: 1}"),
    "itself": "x: &a [*a]",
    "deep": "x: " + "[" * 500 + "]" * 500,
    "base 60": f"x: {':'.join(['59'] * 1000)}",
    "digits": f"x: {'9' * 401}",
    "hexadecimal": f"x: 0x{'f' * 30}",
    "a date": "x: 2020-01-01",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_configuration_does_not_multiply_while_it_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{yaml.safe_dump(CONFIG)}{text}\n")
    with pytest.raises(DamagedFile, match=f"{path}: expected YAML"):
        read_config(path)


@pytest.mark.parametrize("text", ["[" * 500 + "]" * 500, '{"a": ' + "9" * 401 + "}", '{"a": "\\ud800"}', "\xff"])
def test_json_that_nobody_writes_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedFile, match=f"{path}: expected JSON, got a damaged file"):
        read_facts(path, sizes=False)


@pytest.mark.parametrize(
    "change", [{"num": "0"}, {"directory": 3}, {"name": "a/b"}, {"job": "-x"}, {"overrides": [1]}, {"more": 1}]
)
def test_manifest_that_parses_and_is_wrong_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "manifest.jsonl"
    assert read_manifest(path) == []
    path.write_text(json.dumps(TASK) + "\n")
    assert read_manifest(path) == [TASK]
    path.write_text(json.dumps({**TASK, **change}) + "\n")
    with pytest.raises(DamagedFile, match=f"{path}: expected a line of JSON for each task, got a damaged file"):
        read_manifest(path)


@pytest.mark.parametrize(
    "line",
    ['{"epoch": 2, "a/b": ' + "9" * 401 + "}", '{"epoch": true}', '{"epoch": -1}', '{"epoch": 1}',
     '{"epoch": 2, "a": true}', '{"epoch": 2, "\\ud800": 1.0}', '{"epoch": 2, "a": [1]}', '{"epoch": 99999999999}'],
)  # fmt: skip
def test_journal_line_of_no_record_is_named(tmp_path: Path, line: str) -> None:
    journal = Journal(tmp_path / "training.jsonl")
    journal.path.write_text(f'{{"epoch": 1, "a/b": 0.5}}\n{line}\n{{"epoch": 3}}\n')
    with pytest.raises(DamagedFile, match=f"{journal.path}: expected .* in line 2"):
        journal.read()
