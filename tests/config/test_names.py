"""Names, folders and outputs from outside: what passes, what is refused, and that nothing is written meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import SMALL, Compose, compose

from ncexp.config import ConfigError, check, check_analyses, check_measurement, check_outputs, check_simulation
from ncexp.config.composing import compose_mapping, quoted
from ncexp.config.names import LONGEST_NAME, is_file_name, is_name

BAD = [
    "../up",
    "a/b",
    "/",
    ".",
    "..",
    "*",
    "a\nb",
    "it's",
    "-x",
    "\x07",
    "a\x1b[31m",
    "",
    "x" * 300,
    "[/x]",
    "a b",
    "é",
]
#: Every key that becomes part of a path, a table or a query.
NAMES = ["dataset.name", "architecture.name", "loss.name", "optimizer.name", "optimizer.schedule.name",
         "analysis.collapse.name", "tracking.experiment"]  # fmt: skip


def _set(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    node = raw
    for parent in parents:
        node = node[parent]
    node[last] = value
    return raw


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_name_is_refused_wherever_it_stands(composed: Compose, name: str) -> None:
    raw = composed()
    for path in NAMES:
        with pytest.raises(ConfigError, match=rf"{path}: expected 1 to 64 letters") as caught:
            check(_set(composed(), path, name))
        assert len(str(caught.value)) < 300
    raw["analysis"][name] = raw["analysis"]["collapse"]  # its journal bears it
    with pytest.raises(ConfigError, match="analysis: expected names of 1 to 64 letters"):
        check_analyses(raw["analysis"])
    assert not check(composed()).outputs.exists()
    with pytest.raises(ConfigError, match=r"simulation\.name: expected 1 to 64 letters"):
        check_simulation(_set(compose("simulate", []), "simulation.name", name))


@pytest.mark.parametrize(
    "name", ["digits", "resnet18", "vit_base_patch16.augreg2_in21k", "a-b", "0", "x" * LONGEST_NAME]
)
def test_name_of_letters_digits_and_few_signs_is_taken(composed: Compose, name: str) -> None:
    raw = composed()
    for path in NAMES:
        _set(raw, path, name)
    assert len(f"0000_{check(raw).directory.name}") <= 255  # of a run, and of its link in a sweep
    assert is_name(name)


@pytest.mark.parametrize(
    ("name", "taken"),
    [("my run (best)", True), ("..a", True), ("", False), (".", False), ("..", False), ("a/b", False), ("/a", False),
     ("a\0", False), ("a\n", False), ("a\x1b[2J", False), ("é" * 128, False)],
    ids=ascii,
)  # fmt: skip
def test_file_name_is_one_printable_part_of_a_path(name: str, taken: bool) -> None:
    assert is_file_name(name) is taken


@pytest.mark.parametrize("folder", ["", "a\nb", "a\0b", "x" * 256, "/a" * 2000], ids=ascii)
def test_folder_that_no_system_takes_is_refused(composed: Compose, folder: str) -> None:
    for check_it, raw in [
        (check, composed()),
        (check_simulation, compose("simulate", [])),
        (check_measurement, compose("measure", ["run=somewhere"])),
    ]:
        with pytest.raises(ConfigError, match="outputs: expected "):
            check_it(_set(raw, "outputs", folder))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [(folder, ".+") for folder in ("/proc/x", "/proc", "/sys/x/y", "/dev/null", "/dev/null/x", "/etc/passwd/x")]
    # SQLAlchemy 2.1 wrote a file `a`, beside the folder, or found none; 2.0 reads %25 as it stands.
    + [(f"/tmp/{name}", rf"in the address .* there {name[1:-1]} means .*") for name in ("a?b", "a%25b")],
)
def test_outputs_that_take_no_file_are_refused(folder: str, reason: str) -> None:
    message = rf"outputs: expected a folder that takes files, got '{folder}' \({reason}\)".replace("?", r"\?")
    with pytest.raises(ConfigError, match=message):
        check_outputs(Path(folder))


@pytest.mark.parametrize("name", ["it's [red] :x:", "100%", "a (1)"])
def test_outputs_that_can_be_made_are_taken_and_not_made(tmp_path: Path, name: str) -> None:
    check_outputs(tmp_path / "a" / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_quoted_word_is_what_hydra_reads(tmp_path: Path) -> None:
    for word in ["it's", r"a\b", r"a\'b", "a\\", "[/x]", "a, b", "${x", "{a: 1}", ' "x" ']:
        assert compose_mapping("measure", [f"outputs={quoted(word)}", "run=x"])["outputs"] == word


def test_measuring_whose_name_is_too_long_for_a_link_is_refused() -> None:
    raw = compose("measure", ["run=somewhere", "analysis=[collapse]"])
    many = [{letter * 60: raw["analysis"]["collapse"] for letter in letters} for letters in ("abc", "abcd")]
    assert check_measurement({**raw, "analysis": many[0]})
    with pytest.raises(ConfigError, match="analysis: expected names that make a file's name"):
        check_measurement({**raw, "analysis": many[1]})


def test_outputs_in_the_home_folder_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = check(compose("config", [*SMALL, "outputs='~/runs'"]))
    assert config.outputs == tmp_path / "runs"
