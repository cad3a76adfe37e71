"""Keys and values of a configuration, checked against the annotated signature of what they are for.

A whole configuration is for a frozen dataclass (`read`). One choice of a group, as conf/loss/mse.yaml, is for its
``_target_`` (`Component`). So a key is declared once, and a network of somebody else's package is checked as ours are.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, create_model
from pydantic.errors import PydanticUserError

from ncexp.config.names import NAME_CONTRACT, family_of, is_name, shown

T = TypeVar("T")


def _in_float32(value: float) -> float:
    if value != 0 and not 2.0**-126 <= value < 2.0**128:
        raise ValueError("a number within float32, 1.2e-38 to 3.4e38: beyond, training would have 0 or infinity")
    return value


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_in_float32)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_in_float32)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
#: What 32 bits count: with more, sizes overflow in torch.
Count = Annotated[int, Field(ge=1, lt=2**31)]
#: Channels or units of one layer; two such layers in a row are more than any machine holds.
Width = Annotated[int, Field(ge=1, le=2**16)]
#: What torch's generators take.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: See `ncexp.training.machine`, which imports torch.
Precision = Literal["fp32", "tf32", "bf16"]
#: How the last layer follows the features; see `ncexp.training.regimes`.
Regime = Literal["plain", "on_path", "renormalized"]

#: Marks an option that does not determine the result and so stays out of the key: `Annotated[int, INCIDENTAL]`.
INCIDENTAL = "incidental"
#: Marks an option that came later: at its default it stays out of the key, so that earlier runs keep theirs.
ADDED = "added"

#: What the framework itself hands to the targets of a group; everything else comes from the configuration.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "architecture": ("input_shape", "num_classes"),
    "loss": ("num_classes",),
    "optimizer": ("parameters",),
    "optimizer.base": ("parameters",),
    "optimizer.schedule": ("epochs",),
    "simulation": ("seed",),
}
#: Other names under which a target may take what it is handed: those of torch's own optimizers.
ALSO = {"parameters": "params"}


def labels_of(group: str) -> tuple[str, ...]:
    """The entries of a choice of this group that only people read: no options of its target, in no key."""
    return ("name", "family") if group == "architecture" else ("name",)


class ConfigError(ValueError):
    """A configuration that cannot be run; the message lists every fault and what would be right."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The sentence that ends a complaint about an unknown word: the valid ones and the nearest."""
    names = sorted(choices)
    near = closest(word, names)
    return f"Valid: {', '.join(names) or 'none'}.{f' Did you mean {near}?' if near else ''}"


def closest(word: str, choices: Iterable[str]) -> str:
    """The one that was meant, most likely: the same in other letters, by its initials, its beginning, alike; or ""."""
    names, lower = {name.lower(): name for name in choices}, word.lower()
    initials = {_initials(name): name for name in names}
    found = [name for name in (lower, initials.get(lower), _initials(lower)) if name in names]
    found += [name for name in names if len(lower) > 1 and name.startswith(lower)]
    found += difflib.get_close_matches(lower, names, n=1, cutoff=0.5)
    return names[found[0]] if found else ""


def _initials(name: str) -> str:
    return "".join(part[:1] for part in re.split("[_./-]", name))


@dataclass(frozen=True, kw_only=True)
class Component:
    """One choice of a group, checked against the signature of its target.

    group: where it stands in the configuration (``optimizer.schedule``); name: what directories and tables call it;
    target: the callable, as ``package.module.callable``; options: the target's options with its defaults filled in;
    incidental: those of them that stay out of the key, such as the folder the data lie in: see INCIDENTAL and ADDED;
    family: of an architecture, a label like the name: see `family_of`.
    """

    group: str
    name: str
    target: str
    options: dict[str, Any]
    incidental: frozenset[str] = frozenset()
    family: str = ""

    @classmethod
    def check(cls, group: str, raw: Any) -> Component:
        """Raises ConfigError, with every fault of the options, for a choice that its target would not take."""
        if not isinstance(raw, Mapping):
            how = f"{group.replace('.', '/')}={raw}" if isinstance(raw, str) and is_name(raw) else "a file of the group"
            raise ConfigError(
                f"{group}: expected a choice with _target_ and name, got {shown(raw)}. Choose it by {how}."
            )
        target = locate(f"{group}._target_", raw.get("_target_"))
        labels: dict[str, Any] = {}
        for label in labels_of(group):
            labels[label] = family_of(raw) if label == "family" else raw.get(label)
            if not is_name(labels[label]):
                raise ConfigError(
                    f"{group}.{label}: expected {NAME_CONTRACT}, got {shown(labels[label])}. Choose another."
                )
        given = {key: value for key, value in raw.items() if key not in ("_target_", *labels)}
        checked = _checked(group, target, SUPPLIED.get(group, ()), given)
        options = checked.model_dump()
        incidental = frozenset(
            option
            for option, field in type(checked).model_fields.items()
            if INCIDENTAL in field.metadata or (ADDED in field.metadata and options[option] == field.default)
        )
        return cls(group=group, target=raw["_target_"], options=options, incidental=incidental, **labels)

    def build(self, **supplied: Any) -> Any:
        """Call the target with the options and with what the framework supplies."""
        target = locate(f"{self.group}._target_", self.target)
        named = dict(zip(_as_taken(target, tuple(supplied)), supplied.values(), strict=True))
        return target(**named, **self.options)

    def build_a(self, kind: Any, **supplied: Any) -> Any:
        """As `build`. Raises ConfigError where the target returns no instance of the class `kind`."""
        built = self.build(**supplied)
        if not isinstance(built, kind):
            raise ConfigError(
                f"{self.group}._target_: expected a callable that returns a {kind.__name__}, got {self.target!r}, "
                f"which returns a {type(built).__name__}. docs/extending.md shows one of each kind."
            )
        return built

    def identity(self) -> dict[str, Any]:
        """What determines the result: the target and its options; name and family are only labels."""
        decisive = {option: value for option, value in self.options.items() if option not in self.incidental}
        return {"_target_": self.target, **decisive}

    @property
    def version(self) -> int:
        """The target's own `version`, 1 where it has none: raised when the same options give other numbers, or more."""
        return int(getattr(locate(f"{self.group}._target_", self.target), "version", 1))

    @property
    def key(self) -> str:
        """The measurement key: ten hexadecimal digits of the hash of an analysis, its options and its version."""
        return digest({**self.identity(), "version": self.version})


def digest(content: Any) -> str:
    """Ten hexadecimal digits of the SHA-256 of `content` as JSON, its keys sorted."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def choice(group: str) -> PlainValidator:
    """Marks a key whose value is a choice of this group: ``Annotated[Component, choice("loss")]``."""
    return PlainValidator(lambda raw: Component.check(group, raw))


def part(key: str, schema: Callable[..., Any]) -> PlainValidator:
    """Marks a key that has keys of its own, the parameters of `schema`: ``Annotated[Keep, part("keep", Keep)]``."""
    return PlainValidator(lambda raw: read_part(key, schema, raw))


def read_part(key: str, schema: Callable[..., T], raw: Any) -> T:
    """The value of `key`, which has keys of its own, the parameters of `schema`. Raises ConfigError as `read` does."""
    return schema(**dict(_checked(key, schema, (), raw)))


def read(schema: Callable[..., T], raw: Mapping[str, Any]) -> T:
    """``schema(**raw, raw=raw)``, where `raw` is a whole configuration and `schema` has a parameter for each key.

    Raises ConfigError with a line for each fault.
    """
    return schema(**dict(_checked("", schema, ("raw",), raw)), raw=dict(raw))


def locate(key: str, target: Any) -> Callable[..., Any]:
    """``package.module.callable`` → the callable; key: that of the configuration which names it.

    Raises ConfigError, with the cause that the import gave, where there is none.
    """
    if not isinstance(target, str) or not re.fullmatch(r"\w+(\.\w+)+", target):
        raise ConfigError(f"{key}: expected package.module.callable, got {shown(target)}. Write it with its package.")
    name, _, attribute = target.rpartition(".")
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"{key}: expected an importable package.module.callable, got {shown(target)} ({type(error).__name__}: "
            f"{str(error)[:500]}). Check the spelling, and that the package is installed or its folder on PYTHONPATH."
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        names = [n for n, value in vars(module).items() if getattr(value, "__module__", "") == name]
        raise ConfigError(f"{key}: expected package.module.callable, got {shown(target)}. {nearest(attribute, names)}")
    return found


def _checked(key: str, target: Callable[..., Any], supplied: tuple[str, ...], values: Any) -> BaseModel:
    """The values as options of `target`, with its defaults. Raises ConfigError with a line for each fault."""
    try:
        # Once for each target, as every run of a sweep is checked; one that cannot be hashed is looked at each time.
        model_of = _model_of if isinstance(target, Hashable) else _model_of.__wrapped__
        model = model_of(target, supplied)
    except (TypeError, ValueError, NameError, AttributeError, SyntaxError, PydanticUserError) as error:
        raise ConfigError(
            f"{key}._target_: expected a callable that takes {', '.join((*supplied, 'its options'))} by name, got "
            f"{target!r} ({type(error).__name__}: {error}). Put an annotated function of your own around it."
        ) from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        aliases = {name: field.validation_alias or name for name, field in model.model_fields.items()}
        valid = [alias for alias in aliases.values() if isinstance(alias, str)]  # else it lies deeper, as the schedule
        raise ConfigError("\n".join(_complaints(key, error.errors(), valid))) from None


def _as_taken(target: Callable[..., Any], supplied: tuple[str, ...]) -> tuple[str, ...]:
    """The names under which the target takes what it is handed."""
    if not any(name in ALSO for name in supplied):
        return supplied
    taken = inspect.signature(target).parameters
    return tuple(ALSO[name] if ALSO.get(name) in taken and name not in taken else name for name in supplied)


def _from_yaml(annotation: Any) -> Any:
    """Where a tuple is taken, a list, which YAML has instead, is taken as well."""
    return Annotated[annotation, Field(strict=False)] if get_origin(annotation) is tuple else annotation


@cache
def _model_of(target: Callable[..., Any], supplied: tuple[str, ...]) -> type[BaseModel]:
    """A strict model of the options that `target` takes, read off its signature."""
    parameters, supplied = inspect.signature(target, eval_str=True).parameters, _as_taken(target, supplied)
    if by_place := [p.name for p in parameters.values() if p.kind is p.POSITIONAL_ONLY]:
        raise TypeError(f"it takes {', '.join(by_place)} by position only")
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not takes_any and (missing := [name for name in supplied if name not in parameters]):
        raise TypeError(f"it lacks {', '.join(missing)}")
    fields: dict[str, Any] = {
        p.name: (
            Any if p.annotation is p.empty else _from_yaml(p.annotation),
            ... if p.default is p.empty else p.default,
        )
        for p in parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in supplied
    }
    rules = ConfigDict(
        extra="allow" if takes_any else "forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=()
    )
    return create_model("Options", __config__=rules, **fields)


def _complaints(key: str, faults: Iterable[Any], valid: list[str]) -> Iterable[str]:
    """A line for each value that does not fit."""
    lines: dict[str, str] = {}
    for fault in faults:
        # Of a union pydantic reports each member under a tag of its own (`literal['2/C']`): no part of the key's name.
        path = [str(part) for part in fault["loc"] if str(part).replace("_", "").isalnum()]
        where = ".".join(filter(None, [key, *path]))
        if isinstance(cause := fault.get("ctx", {}).get("error"), ConfigError):  # of a choice or a part: it is whole
            lines[where] = "\n".join(dict.fromkeys([*filter(None, [lines.get(where)]), str(cause)]))
        elif fault["type"] == "extra_forbidden":
            lines[where] = f"{where}: no such key. {nearest(path[-1], valid)}"
        elif fault["type"] == "missing":
            lines[where] = f"{where}: expected a value, got none. Set {where}=..."
        else:
            before = lines[where].rpartition(", got ")[0] + ", or" if where in lines else f"{where}: expected"
            lines[where] = f"{before} {_contract(fault, valid)}, got {shown(fault['input'])}."
    return lines.values()


def _contract(fault: Any, valid: list[str]) -> str:
    """What pydantic's message says there should be, in the words of this command."""
    if fault["type"] == "model_type":
        return f"the keys {', '.join(valid)}"
    said = re.sub("^(Input should be|Value error,|List should have|String should have) ", "", fault["msg"])
    said = said.partition(" after validation")[0].replace("a valid boolean", "true or false")
    said = said.replace("a valid integer", "an integer").replace("a valid ", "a ")
    return f"a value {said}" if said.startswith(("greater", "less")) else said
