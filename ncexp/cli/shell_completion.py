"""`ncexp --shell-completion`: what the Tab key offers in bash and zsh: commands, groups, choices, keys, runs, sweeps.

    eval "$(ncexp --shell-completion)"      in ~/.bashrc or ~/.zshrc

Hydra's own completion imports and composes, a second for each press of the key, and knows neither commands nor runs.
So the YAML files of conf/, and of --config-dir, are read here as they are: the defaults of a file lead to others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import yaml

from ncexp.cli import ALIASES, COMMANDS, home

#: The function that the shell calls. bash takes what follows "=" for a word of its own, so what stands before it is cut
#: off. zsh quotes what has a meaning to it, as "[", so the word is unquoted first.
SCRIPT = """\
if [ -n "$ZSH_VERSION" ]; then
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    _ncexp_completion() {
        local -a offered
        offered=("${(@f)$("$words[1]" --shell-completion "${(j: :)words[1,CURRENT-1]} ${(Q)PREFIX}" 2>/dev/null)}")
        compadd -S '' -- ${(M)offered:#*[=./]}
        compadd -- ${offered:#*[=./]} || (( $#offered[1] )) || _files
    }
    compdef _ncexp_completion ncexp
else
    _ncexp_completion() {
        local line="${COMP_LINE:0:COMP_POINT}"
        local word="${line##* }"
        mapfile -t COMPREPLY < <("$1" --shell-completion "$line" 2>/dev/null)
        if [[ $COMP_WORDBREAKS == *=* && $word == *=* ]]; then
            COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
        fi
        if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=./] ]]; then
            compopt -o nospace 2>/dev/null
        fi
        return 0
    }
    complete -o default -F _ncexp_completion ncexp
fi
"""
#: Groups that no file of conf/ lists among its defaults.
LAUNCHER = "hydra/launcher"
#: Command → the file of conf/ that its overrides change.
CONFIGURED = {"train": "config", "measure": "measure", "simulate": "simulate", "prepare": "config", "list": "config"}
#: Groups whose files set keys of others and have none of their own.
GLOBAL = ("experiment", "sweep")
#: Options after which the folder of the runs stands.
FOLDER = ("--outputs", "--in")


def main(arguments: list[str]) -> int:
    """Print the script for the shell, or, of a line up to the cursor, what may stand in place of its last word."""
    if arguments:
        print("\n".join(filter(str.isprintable, candidates(arguments[0]))))
    else:
        print(SCRIPT, end="")
    return 0


def candidates(line: str) -> list[str]:
    """What may stand in place of the last word of a line, sorted; of a line that ends in a space, of the empty word.

    Raises what reading a damaged file raises.
    """
    *words, word = line.split(" ")
    words = [one for one in words[1:] if one]
    first = ALIASES.get(words[0], words[0]) if words else ""
    command = first if first in COMMANDS else "train"
    offered = set(_of_command(command, words, word)) | ({*COMMANDS} if not words else set())
    return sorted(one for one in offered if one.startswith(word))


def _of_command(command: str, words: list[str], word: str) -> Iterable[str]:
    outputs = _outputs(words)
    if command in ("report", "export", "sync"):
        return _folders(word)
    if command in ("compare", "reference", "runs"):
        return _runs(outputs)
    if command in ("status", "cancel") or (command == "logs" and len(words) == 1):
        return ["last", *(path.name for path in _sweeps(outputs))]
    if command == "logs":
        return _keys(outputs, words[1])
    if command not in CONFIGURED:
        return []
    settings = _Settings(command, words)
    if command == "list":
        return settings.choices(words[1]) if len(words) > 1 else ["quantities", "simulation", *settings.groups]
    runs = [*_runs(outputs), *(path.name for path in _sweeps(outputs))] if command == "measure" else []
    offered = settings.overrides(word)
    return [one for one in offered if one.startswith("dataset")] if command == "prepare" else [*runs, *offered]


class _Settings:
    """The groups and keys that overrides can change, given the choices among `words`.

    groups: those of the chosen files, by path: ``optimizer/schedule``. tree: key → value, or the keys below it.
    """

    def __init__(self, command: str, words: Sequence[str]) -> None:
        self._roots = [Path(home()) / "conf", *map(Path, _values(words, "--config-dir"))]
        self._chosen = dict(word.split("=", 1) for word in words if "=" in word)
        self._chosen = self._chosen_by("experiment") | self._chosen
        self.groups: list[str] = []
        name = "checkpoints" if "checkpoints" in self._chosen else CONFIGURED[command]
        self.tree = self._read("", name)
        if command in ("train", "measure"):
            self.groups.append(LAUNCHER)
            self.tree["hydra"] = {"launcher": self._read(LAUNCHER, self._chosen.get(LAUNCHER, ""))}

    def overrides(self, word: str) -> list[str]:
        """What completes `word`, a beginning of NAME=VALUE: names, or values of a name that is whole."""
        name, equals, value = word.partition("=")
        if equals and name in self.groups:
            begun = value[: max(value.rfind(","), value.rfind("[")) + 1]  # elements of a list, or of a sweep
            return [f"{name}={begun}{choice}" for choice in self.choices(name)]
        *above, _ = name.split(".")
        below: Any = self.tree
        for key in above:
            below = below.get(key) if isinstance(below, dict) else None
        if not isinstance(below, dict):
            return []
        prefix = "".join(f"{key}." for key in above)
        if equals:
            shown = _text(below.get(name.removeprefix(prefix)))
            return [f"{name}={shown}"] if shown else []
        keys = [
            f"{prefix}{key}" + ("." if isinstance(of_key, dict) else "=")
            for key, of_key in below.items()
            if of_key != {}
        ]
        return [*keys, *(f"{group}=" for group in self.groups)]

    def choices(self, group: str) -> list[str]:
        """The names of the group's files; experiments lie in folders."""
        folders = [root / group for root in self._roots]
        pattern = "**/*.yaml" if group == "experiment" else "*.yaml"
        return [str(path.relative_to(folder).with_suffix("")) for folder in folders for path in folder.glob(pattern)]

    def _content(self, group: str, name: str) -> dict[str, Any]:
        found = [path for root in reversed(self._roots) if (path := root / group / f"{name}.yaml").is_file()]
        return (yaml.safe_load(found[0].read_text(encoding="utf-8")) or {}) if found else {}

    def _read(self, group: str, name: str) -> dict[str, Any]:
        """The keys of <group>/<name>.yaml and of what its defaults lead to; none of a name that is no file's."""
        content = self._content(group, name)
        tree: dict[str, Any] = {}
        for default in content.pop("defaults", []):
            if isinstance(default, str):
                tree |= self._read(group, default) if default != "_self_" else {}
                continue
            for key, chosen in default.items():
                if not key.startswith("override "):
                    tree[key] = self._read_chosen(f"{group}/{key}".lstrip("/"), chosen)
        return _merged(tree, {key: value for key, value in content.items() if key not in ("_target_", "hydra")})

    def _chosen_by(self, group: str) -> dict[str, Any]:
        """The choices of groups that the choice of this one makes: ``override /dataset: mnist``."""
        defaults = self._content(group, self._chosen.get(group, "")).get("defaults", [])
        return {
            key.removeprefix("override /"): choice
            for default in defaults
            if isinstance(default, dict)
            for key, choice in default.items()
        }

    def _read_chosen(self, group: str, default: Any) -> dict[str, Any]:
        """The keys of the group's choice: of the command line, else the default one; of a list by the choices."""
        self.groups.append(group)
        chosen = self._chosen.setdefault(group, self._resolved(default))
        if group in GLOBAL:
            return {}
        if group == "analysis":
            names = chosen if isinstance(chosen, list) else str(chosen).strip("[]").split(",")
            return {name: self._read(group, name) for name in names if name}
        return self._read(group, str(chosen))

    def _resolved(self, default: Any) -> Any:
        """A default choice that may follow from those before it: ``${either:ONE,OTHER,SAME,ELSE}``; options that were
        changed are not looked at.
        """
        if not str(default).startswith("${either:"):
            return default
        words = default.removeprefix("${either:").removesuffix("}").replace("${changes:}", "")
        words = re.sub(r"\$\{(\w+)\}", lambda match: str(self._chosen[match[1]]), words)
        one, other, same, otherwise = words.split(",")
        return same if one == other else otherwise


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The keys of both, and of what lies below a key of both."""
    both = {key: _merged(first[key], second[key]) for key in first.keys() & second if isinstance(second[key], dict)}
    return first | second | both


def _text(value: Any) -> str:
    """A value as one writes it; what is no single value is left to the person."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or isinstance(value, list | dict) else str(value)


def _values(words: Sequence[str], option: str) -> list[str]:
    """What stands behind an option, as ``--in X`` or ``--in=X``."""
    pairs = zip(words, [*words, ""][1:], strict=True)
    named = [(*word.partition("="), after) for word, after in pairs]
    return [value if equals else after for name, equals, value, after in named if name == option]


def _outputs(words: Sequence[str]) -> Path:
    named = [value for option in ("outputs", *FOLDER) for value in _values(words, option) if value]
    return Path(named[-1] if named else "outputs")


def _runs(outputs: Path) -> list[str]:
    return [path.parent.name for path in outputs.glob("*/config.yaml")]


def _sweeps(outputs: Path) -> list[Path]:
    """Their folders, the latest last."""
    manifests = sorted(outputs.glob("sweeps/*/manifest.jsonl"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in manifests]


def _keys(outputs: Path, sweep: str) -> list[str]:
    """The keys of a sweep's runs."""
    found = [path for path in _sweeps(outputs) if path.name.startswith(sweep) or sweep == "last"]
    lines = (found[-1] / "manifest.jsonl").read_text(encoding="utf-8").splitlines() if found else []
    return [json.loads(line)["key"] for line in lines]


def _folders(word: str) -> list[str]:
    """Of the runs under the default folder, and whatever folder begins like this."""
    return [*glob(f"{word}*/"), *(f"outputs/{name}/" for name in _runs(Path("outputs")))]
