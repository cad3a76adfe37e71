"""A file of a record may come from anybody: it is what it must be, or it is named, at once and in little memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ncexp.record import DamagedFile, Journal, RunDirectory, State, contents
from ncexp.record.contents import (
    read_config,
    read_environment,
    read_facts,
    read_identity,
    read_job,
    read_manifest,
    read_origin,
    read_path_fit,
    read_status,
)
from ncexp.record.files import LARGEST_FILE, open_file, read_file

CHOICE = {"name": "a", "_target_": "b"}
CONFIG: dict[str, Any] = {"dataset": CHOICE, "architecture": CHOICE, "loss": CHOICE, "optimizer": {**CHOICE, "lr": 0.1},
                          "seed": 0, "epochs": 3, "evaluate_at": [1], "analysis": {},
                          "tracking": {"enabled": True, "uri": None, "experiment": None}}  # fmt: skip
STATUS: dict[str, Any] = {"state": "completed", "started": "2023-11-14T22:13:20+0000",
                          "updated": "2023-11-15T04:03:20+0000", "message": "", "epoch": 3,
                          "record": {"training.jsonl": 4}}  # fmt: skip
SIZES = {"num_classes": 2, "smallest_class": 2, "largest_class": 2, "num_features": 3}
TASK: dict[str, Any] = {"num": 0, "name": "a", "key": "b", "directory": "c", "run": "c", "overrides": [], "job": None}
MEASUREMENT = {"analysis": "a", "target": "b", "options": {}, "version": 1, "began": 0.5}
FIT: dict[str, Any] = {"start_epoch": 1, "excluded_epochs": [], "records": [{"epoch": 1, "x": 0.5, "y": None}]}


def strange_files(folder: Path) -> list[Path]:
    """A folder, a pipe, a device, a link to itself, and a file without end."""
    names = ["folder", "pipe", "device", "loop", "large"]
    paths = [folder / name for name in names]
    paths[0].mkdir()
    os.mkfifo(paths[1])
    paths[2].symlink_to("/dev/zero")
    paths[3].symlink_to(paths[3])
    paths[4].touch()
    os.truncate(paths[4], 2**40)
    return paths


def test_no_file_that_is_none_is_waited_for_or_read_without_end(tmp_path: Path) -> None:
    for path in strange_files(tmp_path):
        with pytest.raises(DamagedFile, match=f"{path}: expected"):
            read_file(path)
        with pytest.raises(DamagedFile, match=f"{path}: expected"):
            Journal(path).read()
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none")


def test_file_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert read_file(path, most=3) == b"abc"
    with pytest.raises(DamagedFile, match="expected at most 2 bytes, got 3"):
        read_file(path, most=2)
    assert LARGEST_FILE > 2**25


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (read_status, STATUS),
        (lambda path: read_facts(path, sizes=True), SIZES),
        (read_environment, {"threads": 1}),
        (read_job, {"job": "local:a:1:2", "submission": None}),
        (read_identity, {"id": "0a"}),
        (read_path_fit, FIT),
        (read_origin, {"files": {"3": {"sha256": "0a"}}}),
        (contents.read_measurement, MEASUREMENT),
    ],
)
def test_file_holds_what_its_readers_rely_on_or_is_named(
    tmp_path: Path, read: Callable[[Path], Any], content: dict[str, Any]
) -> None:
    path = tmp_path / "one.json"
    assert not read(path)
    path.write_text(json.dumps(content))
    assert read(path) == content or read(path) == content.get("id")
    for name, value in content.items():
        wrong = [[], {}, "\ud800", 10**400, True] if value is None else [None, [[]], "\ud800", 10**400, -1.5]
        for other in wrong:
            if type(other) is type(value) or (isinstance(value, int | float) and isinstance(other, float)):
                continue
            path.write_text(json.dumps({**content, name: other}))
            with pytest.raises(DamagedFile, match=f"{path}: "):
                read(path)


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (read_job, {"job": "-x"}),
        (read_identity, {"id": "a b"}),
        (read_path_fit, {**FIT, "records": [{"epoch": 1, "x": "word"}]}),
        (read_path_fit, {**FIT, "records": [{"epoch": 1.5}]}),
        (read_origin, {"files": {"three": {"sha256": "0a"}}}),
        (read_origin, {"files": {"3": {}}}),
        (contents.read_measurement, {"analysis": "a", "target": "b", "options": {}, "version": 1}),
        (contents.read_measurement, {**MEASUREMENT, "more": 1}),
    ],
)
def test_file_of_the_right_kinds_and_wrong_inside_is_named(
    tmp_path: Path, read: Callable[[Path], Any], content: dict[str, Any]
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=f"{path}: expected"):
        read(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("state", "killed"),
        ("started", "2023-11-14T22:13:20"),  # no time zone
        ("record", [4]),
    ],
)
def test_status_that_parses_and_is_wrong_is_named(tmp_path: Path, place: str, value: Any) -> None:
    directory = RunDirectory(tmp_path)
    directory.status_path.write_text(json.dumps({**STATUS, place: value}))
    with pytest.raises(DamagedFile, match=f"{directory.status_path}: "):
        directory.status()


def test_status_names_the_states_that_a_process_writes(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for state in contents.WRITTEN:
        directory.set_status(state)
        assert directory.state() is state
    assert State.KILLED not in contents.WRITTEN


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("optimizer", {**CHOICE, "lr": "fast"}),
        ("optimizer", {**CHOICE, "lr": 10**400}),
        ("dataset", {**CHOICE, "name": 3}),
        ("dataset", {"_target_": "b"}),
        ("dataset", {**CHOICE, "name": "$\\frac{$"}),
        ("seed", "one"),
        ("seed", True),
        ("tracking", []),
        ("tracking", {"enabled": "no", "uri": None, "experiment": None}),
        ("tracking", {"enabled": True}),
        ("regime", ["plain"]),
        ("analysis", "\ud800"),
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
    lines = [f"x0: &a0 {first}", *(f"x{k}: &a{k} " + line.replace("*", f"*a{k - 1}") for k in range(1, count))]
    return yaml.safe_dump(CONFIG) + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        repeated("[*, *]", "[1]"),
        repeated("{<<: [*, *]}", "{a: 1}"),
        yaml.safe_dump(CONFIG) + "x: &a [*a]\n",
        yaml.safe_dump(CONFIG) + "x: " + "[" * 500 + "]" * 500,
        yaml.safe_dump(CONFIG) + f"x: {':'.join(['59'] * 1000)}\n",
        yaml.safe_dump(CONFIG) + f"x: {'9' * 401}\n",
        yaml.safe_dump(CONFIG) + f"x: 0x{'f' * 30}\n",
        yaml.safe_dump(CONFIG) + "x: 2020-01-01\n",
    ],
    ids=["aliases", "merges", "itself", "deep", "base 60", "digits", "hexadecimal", "a date"],
)
def test_configuration_does_not_multiply_while_it_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
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
     '{"epoch": 2, "a": true}',
     '{"epoch": 2, "\\ud800": 1.0}', '{"epoch": 2, "a": [1]}', '{"epoch": 99999999999}'],
)  # fmt: skip
def test_journal_line_of_no_record_is_named(tmp_path: Path, line: str) -> None:
    journal = Journal(tmp_path / "training.jsonl")
    journal.path.write_text(f'{{"epoch": 1, "a/b": 0.5}}\n{line}\n{{"epoch": 3}}\n')
    with pytest.raises(DamagedFile, match=f"{journal.path}: expected .* in line 2"):
        journal.read()
