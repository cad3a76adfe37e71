"""`ncexp --shell-completion`: what the Tab key offers in bash and zsh: commands, groups, choices, keys, runs, sweeps.

    eval "$(ncexp --shell-completion)"      in ~/.bashrc or ~/.zshrc

Choices, runs and sweeps are read from the disk at once. Keys are those of the configuration that Hydra composes of the
words so far, which takes half a second; a first word may be one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path
from typing import Any, get_args

from ncexp.cli import ALIASES, COMMANDS
from ncexp.config.installed import GROUPS, choices, config_directory
from ncexp.config.start import BACKBONE, HeadKind

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
LAUNCHER = "hydra/launcher"
#: Command → the file of conf/ that its overrides change, and the groups of choices.
CONFIGURED = {
    "train": ("config", (*GROUPS[:-1], LAUNCHER)),
    "measure": ("measure", ("analysis", LAUNCHER)),
    "measure checkpoints": ("checkpoints", GROUPS[:6]),
    "simulate": ("simulate", GROUPS[-1:]),
    "prepare": ("config", GROUPS[:1]),
}
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
    if command in ("report", "export", "sync"):  # of the runs under the default folder, and whatever begins like this
        return [*glob(f"{word}*/"), *(f"outputs/{name}/" for name in _runs(Path("outputs")))]
    if command in ("compare", "reference", "runs"):
        return _runs(outputs)
    if command in ("status", "cancel") or (command == "logs" and len(words) == 1):
        return ["last", *(path.name for path in _sweeps(outputs))]
    if command == "logs":
        return _keys_in(outputs, words[1])
    if command == "list":
        return _choices(words[1], words) if len(words) > 1 else ["quantities", *GROUPS]
    if command not in CONFIGURED:
        return []
    runs = [*_runs(outputs), *(path.name for path in _sweeps(outputs))] if command == "measure" else []
    offered = [*runs, *_overrides(command, words, word)]
    return [one for one in offered if one.startswith("dataset")] if command == "prepare" else offered


def _choices(group: str, words: Sequence[str]) -> list[str]:
    return [*choices(group, *map(Path, _values(words, "--config-dir")))]


def _overrides(command: str, words: Sequence[str], word: str) -> list[str]:
    """What completes `word`, a beginning of NAME=VALUE: names, or values of a name that is whole."""
    name, equals, value = word.partition("=")
    if equals and name in (*GROUPS, LAUNCHER):
        begun = value[: max(value.rfind(","), value.rfind("[")) + 1]  # elements of a list, or of a sweep
        return [f"{name}={begun}{choice}" for choice in _choices(name, words)]
    of_files = any(one.startswith("checkpoints=") for one in words)
    file, groups = CONFIGURED["measure checkpoints" if of_files else command]
    keys = _keys_of(file, words)
    *above, last = name.split(".")
    for key in above:
        keys = keys.get(key) if isinstance(keys, dict) else None
    if not isinstance(keys, dict):
        return []
    if equals and name == "architecture.freeze":
        return [f"{name}={BACKBONE}"]
    if equals and name == "architecture.head" and keys.get("head") is None:  # that of VGGs is their own
        return [f"{name}={kind}" for kind in get_args(HeadKind)]
    if equals:  # what is no single value is left to the person
        now = str(keys[last]).lower() if isinstance(keys.get(last), bool) else keys.get(last)
        return [] if now is None or isinstance(now, list | dict) else [f"{name}={now}"]
    prefix = name.removesuffix(last)
    below = [(key, "." if isinstance(value, dict) else "=") for key, value in keys.items() if value != {}]
    return [*(f"{prefix}{key}{sign}" for key, sign in below if key != "_target_"), *(f"{group}=" for group in groups)]


def _keys_of(file: str, words: Sequence[str]) -> Any:
    """The keys of conf/<file>.yaml with the words so far, as a nested mapping; none where Hydra refuses a word."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from ncexp.config.composing import REFUSALS, composing, quoted

    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    folders = ",".join(quoted(f"file://{Path(folder).absolute()}") for folder in _values(words, "--config-dir"))
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())), composing(overrides):
            loader = GlobalHydra.instance().config_loader()
            searched = [*overrides, f"hydra.searchpath=[{folders}]"]
            keys: Any = OmegaConf.to_container(loader.load_configuration(file, searched, run_mode=RunMode.MULTIRUN))
    except REFUSALS:
        return {}
    return {**keys, "hydra": {"launcher": keys["hydra"]["launcher"]}}


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


def _keys_in(outputs: Path, sweep: str) -> list[str]:
    """The keys of a sweep's runs."""
    found = [path for path in _sweeps(outputs) if path.name.startswith(sweep) or sweep == "last"]
    lines = (found[-1] / "manifest.jsonl").read_text(encoding="utf-8").splitlines() if found else []
    return [json.loads(line)["key"] for line in lines]
