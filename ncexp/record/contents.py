"""What each file of a run must hold. One function for each; every command reads the file by it and by nothing else.

A file that parses may still be wrong, and may come from anybody. What these return has the entries, of the kinds, that
readers rely on; all else is DamagedFile, which names the file, the entry and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from ncexp.config.names import NAME_CONTRACT, is_file_name, is_name, shown
from ncexp.record.files import DamagedFile, parse_json, read_file, read_json, refuse_odd
from ncexp.record.states import State

#: Groups of the configuration of which a run has exactly one choice.
COMPONENTS = ("dataset", "architecture", "loss", "optimizer")
#: Sizes that all facts of a training say, of classes or of targets.
SIZES = ("num_classes", "smallest_class", "largest_class", "num_features")
SIZES_OF_TARGETS = ("num_targets", "num_features")
#: Entry → its kind, where it is there.
Kinds = Mapping[str, type | tuple[type, ...]]
NUMBER, WORD_OR_NONE = (int, float, NoneType), (str, NoneType)
CHOICE: Kinds = {"name": str, "_target_": str, "family": WORD_OR_NONE, "model": WORD_OR_NONE, "lr": NUMBER}
RUN: Kinds = {"seed": (int, NoneType), "epochs": int, "batch_size": int, "regime": str, "tracking": dict}
TRACKING: Kinds = {"enabled": bool, "uri": WORD_OR_NONE, "experiment": WORD_OR_NONE}
STATUS: Kinds = {"state": str, "started": str, "updated": str, "host": str, "pid": int, "job": WORD_OR_NONE,
                 "epoch": int, "message": str, "record": dict}  # fmt: skip
#: The states that a process writes down of its own work.
WRITTEN = (State.RUNNING, State.COMPLETED, State.DIVERGED, State.PRUNED, State.FAILED, State.INTERRUPTED)
MEASUREMENT: Kinds = {"analysis": str, "target": str, "options": dict, "version": int, "began": float}
TASK: Kinds = {"num": int, "name": str, "key": str, "directory": str, "run": str, "overrides": list,
               "job": WORD_OR_NONE}  # fmt: skip
FIT: Kinds = {"start_epoch": int, "excluded_epochs": list, "records": list}
_RESTORE = "Set it aside: the same command as before writes it again."
_ASIDE = "Set the file aside."
_KINDS = {str: "a word", int: "a whole number", float: "a number", bool: "true or false", dict: "a mapping",
          list: "a list", NoneType: "nothing"}  # fmt: skip
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, in C where the library has it, ten times as fast; of what we write ourselves.

    Merged keys would multiply, and a number in base 60 takes the square of its length, while they are read.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing."""
        if any(key.tag == _MERGE for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a merged mapping", node.start_mark)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """A number of the length of one."""
        if len(node.value) > 40:
            raise yaml.constructor.ConstructorError(None, None, "a number too long", node.start_mark)
        return self.construct_yaml_int(node) if node.tag.endswith("int") else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def read_config(path: Path) -> dict[str, Any]:
    """config.yaml: the configuration of a training, ours or another's, or of a simulation."""
    try:
        raw = yaml.load(read_file(path, most=2**22), _Loader)
        refuse_odd(raw, most=200_000)  # with every repetition written out
    except DamagedFile:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise DamagedFile(f"{path}: expected YAML, got a damaged file ({cause}). {_RESTORE}") from None
    groups = raw if isinstance(raw, dict) else {}
    # Of a file that is cut the beginning is there, in which a training's other choices stand.
    needed = (
        ("simulation", "seed") if "simulation" in groups else COMPONENTS if "evaluate_at" in groups else COMPONENTS[:3]
    )
    names: dict[str, str | None] = {}
    for group in (*COMPONENTS, "simulation"):
        if group in needed or group in groups:
            choice = groups.get(group)
            if not isinstance(choice, dict) or "name" not in choice:
                raise DamagedFile(f"{path}: expected a choice of {group}, got none. {_RESTORE}")
            _check(path, choice, CHOICE, do=_RESTORE, within=f"{group}.")
            names[f"{group}.name"] = choice["name"]
    _check(path, groups, RUN, [name for name in needed if name == "seed"], do=_RESTORE)
    names |= {"regime": groups.get("regime"), "architecture.family": groups.get("architecture", {}).get("family")}
    for place, name in names.items():
        if name is not None and not is_name(name):  # the files of a report bear them
            raise DamagedFile(f"{path}: expected as {place} {NAME_CONTRACT}, got {shown(name)}. {_RESTORE}")
    _check(path, groups.get("tracking", {}), TRACKING, TRACKING if "tracking" in groups else (), _RESTORE, "tracking.")
    return groups


def read_facts(path: Path, sizes: bool) -> dict[str, Any]:
    """facts.json; empty where there is none. sizes: whether all SIZES must be there, as of a training."""
    facts = read_json(path)
    if facts is not None:
        known = SIZES_OF_TARGETS if "num_targets" in facts else SIZES
        kinds: Kinds = {**dict.fromkeys(known, int), "targets": list, "target_scales": list}
        _check(path, facts, kinds, known if sizes else ())
    return facts or {}


def read_environment(path: Path) -> dict[str, Any]:
    """environment.json; empty where there is none."""
    return _checked(path, {"threads": int}) or {}


def read_status(path: Path) -> dict[str, Any] | None:
    """status.json; None before the first."""
    status = _checked(path, STATUS, ("state", "started", "updated"))
    times = () if status is None else (status["started"], status["updated"])
    if status is not None and (status["state"] not in WRITTEN or not all(map(_is_time, times))):
        raise DamagedFile(f"{path}: expected a state and its times, got {str(status)[:120]}. {_ASIDE}")
    return status


def read_job(path: Path) -> dict[str, Any]:
    """job.json: the last job that a sweep submitted for the task; empty where there was none."""
    noted = _checked(path, {"job": str, "submission": WORD_OR_NONE}, ("job",)) or {}
    if noted and not is_job(noted["job"]):
        raise DamagedFile(f"{path}: expected a job, as 12, 12_3 or local:..., got {shown(noted['job'])}. Set it aside.")
    return noted


def read_identity(path: Path) -> str | None:
    """The word of identity.json; None where there is none."""
    content = _checked(path, {"id": str}, ("id",))
    if content is not None and not re.fullmatch("[0-9A-Za-z_-]{1,64}", content["id"]):
        raise DamagedFile(
            f"{path}: expected one word of letters and digits as id, got {shown(content['id'])}. {_ASIDE}"
        )
    return None if content is None else str(content["id"])


def read_measurement(path: Path) -> dict[str, Any] | None:
    """What stands beside a journal of measurements/: analysis, target, options, version, began; None where it lacks."""
    content = read_json(path)
    if content is not None:
        do = f"Set it and {path.stem}.jsonl aside: `ncexp measure` measures it again."
        if content.keys() != MEASUREMENT.keys():
            raise DamagedFile(f"{path}: expected {', '.join(MEASUREMENT)}, got {shown([*content])}. {do}")
        _check(path, content, MEASUREMENT, do=do)
    return content


def read_path_fit(path: Path) -> dict[str, Any]:
    """path_fit.json with its `records`; empty where there is none, or nothing was fitted."""
    fit = read_json(path) or {}
    if fit.get("records", []) == []:
        return {}
    _check(path, fit, FIT, FIT)
    numbers = {type(value) for record in fit["records"] if isinstance(record, dict) for value in record.values()}
    whole = [*fit["excluded_epochs"], *(isinstance(one, dict) and one.get("epoch") for one in fit["records"])]
    if not numbers <= {int, float, NoneType} or not all(type(epoch) is int for epoch in whole):
        raise DamagedFile(f"{path}: expected records of numbers by epoch, got others. {_ASIDE}")
    return fit


def read_origin(path: Path) -> dict[str, Any]:
    """origin.json: which files of another training were measured, by epoch; empty where there is none."""
    origin = _checked(path, {"files": dict}) or {}
    for epoch, file in origin.get("files", {}).items():
        if (
            not re.fullmatch("[0-9]{1,9}", epoch)
            or not isinstance(file, dict)
            or not isinstance(file.get("sha256"), str)
        ):
            raise DamagedFile(f"{path}: expected the files by epoch with their sha256, got {shown(file)}. {_ASIDE}")
    return origin


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """manifest.jsonl of a sweep: a task a line; empty before the first submission."""
    try:
        lines = [parse_json(line) for line in read_file(path).splitlines()]
        refuse_odd(lines)
        for line in lines:
            _check(path, line, TASK, TASK)
            if line.keys() != TASK.keys() or not all(isinstance(word, str) for word in line["overrides"]):
                raise ValueError(f"a line with {shown([*line])}")
            title = f"{line['num']:03d}_{line['name']}_{line['key']}"
            if not is_file_name(title):  # links and logs are called by it
                raise ValueError(f"expected a name and a key that make a file's name, got {shown(title)}")
            if line["job"] is not None and not is_job(line["job"]):
                raise ValueError(f"expected a job, as 12, 12_3 or local:..., got {shown(line['job'])}")
    except FileNotFoundError:
        return []
    except ValueError as error:
        cause = str(error).removeprefix(f"{path}: ").removesuffix(f" {_ASIDE}").rstrip(".")
        raise DamagedFile(
            f"{path}: expected a line of JSON for each task, got a damaged file ({cause}). Set it aside: the command "
            "that made the sweep writes it again."
        ) from None
    return lines


def is_job(word: str) -> bool:
    """Whether it can be a job: SLURM's ``12``, of an array ``12_3``, or a process, see `ncexp.launching.states`."""
    return re.fullmatch(r"[0-9]+(_[0-9]+)?|local:[\w.-]+:[0-9]+:([0-9]+|None)", word, re.ASCII) is not None


def _checked(path: Path, kinds: Kinds, needed: Iterable[str] = ()) -> dict[str, Any] | None:
    content = read_json(path)
    if content is not None:
        _check(path, content, kinds, needed)
    return content


def _check(
    path: Path, content: Any, kinds: Kinds, needed: Iterable[str] = (), do: str = _ASIDE, within: str = ""
) -> None:
    """Raises DamagedFile where an entry is not of its kind, or one that is needed is not there."""
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: expected a mapping{within and ' as ' + within[:-1]}, got {shown(content)}. {do}")
    for name in (*(content.keys() & kinds.keys()), *(name for name in needed if name not in content)):
        kind, value = kinds[name], content.get(name)
        asked = kind if isinstance(kind, tuple) else (kind,)
        if name not in content or not isinstance(value, asked) or (isinstance(value, bool) and bool not in asked):
            words = " or ".join(_KINDS[one] for one in asked if one is not int or float not in asked)
            found = shown(value) if name in content else "none"
            raise DamagedFile(f"{path}: expected {words} as {within}{name}, got {found}. {do}")


def _is_time(text: str) -> bool:
    """Whether it says in ISO's form when something was, and in which time zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
