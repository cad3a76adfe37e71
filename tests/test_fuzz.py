"""Any value for any key of the configuration: refused in one message that begins with a key, or trained a step on.

In process, as a sweep's preparation and a run go about it, up to the first write: compose, check, assemble, check the
gradients, build the analyses; then an epoch of two steps, whose numbers are finite or which says that it diverged.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from ncexp.config import ConfigError, RunConfig
from ncexp.config.composing import Composer, config_directory, explain, quoted
from ncexp.launching.task import check_task
from ncexp.measure import RecordedTraining
from ncexp.record import RunDirectory
from ncexp.training import Assembly, Diverged, assemble

#: Sixteen examples in two batches.
_TINY = ["epochs=3", "batch_size=8", "evaluate_at=[1,3]", "tracking.enabled=false", "device=cpu"]
_MIXTURE = ["dataset=gaussian_mixture", "dataset.num_classes=4", "dataset.num_features=6",
            "dataset.examples_per_class=4", "dataset.test_examples_per_class=2",
            "architecture=mlp", "architecture.hidden=[8]"]  # fmt: skip
BASES = {
    "mlp": [*_MIXTURE, "loss=mse", "analysis=[collapse,decisions,decomposition,central_path]", *_TINY],
    "adam": [*_MIXTURE, "architecture.batch_norm=false", "optimizer=adam", "optimizer/schedule=cosine", "loss=focal",
             "analysis=[layers,robustness]", "analysis.layers.modules=[backbone.0]", *_TINY],
    "free": ["experiment=unconstrained_features", "dataset.num_classes=4", "dataset.examples_per_class=4",
             "architecture.num_features=6", *_TINY, "batch_size=16"],
}  # fmt: skip
#: What was once accepted, met with a traceback or never ended; and whatever else is at the edge of a type.
WORDS = [
    *("null", "true", "false", "???", "[]", "[0]", "[1,2]", "[null]", "[[1]]", "[a,b]", "{}", "{a: 1}", "{1: 2}"),
    *("2/C", "auto", "last", "abc", "foo://bar", "../up", ".", "..", "'*'", "'a\nb'", r"'it\'s'", "-x", "'[/x]'"),
    *("'[red]'", "'\x07'", "'a\0b'", "''", "x" * 300, "'" + "/a" * 3000 + "'", "${seed}", "${nowhere}", "'${'"),
    *("${oc.env:NOWHERE}", "/proc/x", "/sys/x", "/dev/null", "/dev/null/x", "/etc/passwd", "builtins.dict"),
    *("builtins.list", "builtins.int", "types.SimpleNamespace", "os.getcwd", "math.pi", "math.sqrt", "torch.nn.Linear"),
    *("ncexp.training.losses.MSE", "cuda:7", "cuda:00", "cuda:" + "9" * 20, "tf32", "bf16", "9" * 5000),
]
NUMBERS = [2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**40, 1e-320, 5e-324, 1e-40, 1e30, 1e38, 1e200, 1e308, 1e9]
#: Between them lie sizes that are allowed and slow.
VALUES = (
    st.sampled_from(WORDS)
    | st.sampled_from(NUMBERS).flatmap(lambda number: st.sampled_from([str(number), str(-number), f"[{number}]"]))
    | st.integers(-3, 40).map(str)
    | st.integers(min_value=2**31).map(str)
    | st.floats().map(str)
    | st.text(max_size=20).map(quoted)
)
#: Composition takes seconds where files are chosen anew, and torch.compile a minute: neither is about values.
LEFT_OUT = {"dataset", "architecture", "loss", "optimizer", "optimizer.schedule", "analysis", "compile"}


def _keys(node: Any, path: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield f"{path}{name}"
        if isinstance(value, dict | list):
            yield from _keys(value, f"{path}{name}.")


class Fuzzed:
    """One base: its composer, and the keys of its `--cfg job`."""

    def __init__(self, base: list[str]) -> None:
        loader = GlobalHydra.instance().config_loader()
        self._composer = Composer(loader, loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN))
        self._base = base
        raw = self._composer.compose(base)
        self._top = {*raw, *(override.partition("=")[0] for override in base)}
        keys = sorted(set(_keys(raw)) - LEFT_OUT)
        setting = st.sampled_from(keys).flatmap(lambda key: VALUES.map(lambda value: f"{key}={value}"))
        adding = st.sampled_from(keys).flatmap(lambda key: VALUES.map(lambda value: f"+{key}.new={value}"))
        leaving_out = st.sampled_from(keys).map(lambda key: f"~{key}")
        one = st.one_of(setting, setting, setting, setting, adding, leaving_out)
        self.cases = st.lists(one, min_size=1, max_size=2)

    def prepare(self, *overrides: str) -> Assembly:
        """All that comes before the first step."""
        config = check_task(self._composer.compose([*self._base, *overrides]))
        assert isinstance(config, RunConfig)
        assembly = assemble(config)
        assembly.check_gradients()
        RecordedTraining(config, RunDirectory(config.directory), assembly)
        return assembly

    def work(self, *overrides: str) -> None:
        """Raises whatever is neither a refusal in good form nor a step with finite numbers."""
        try:
            assembly = self.prepare(*overrides)
        except (ConfigError, MissingConfigException, OmegaConfBaseException) as error:
            message = explain(error)
            name = re.match(r"\w+", message)
            assert name, message
            assert name[0] in self._top | {"experiment"}, message
            assert len(message) < 3000
            return
        try:
            summary = assembly.training.run_epoch(lambda: False)
        except Diverged:
            return
        assert all(map(math.isfinite, summary.values())), summary
        assert all(bool(parameter.isfinite().all()) for parameter in assembly.training.network.parameters())


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[dict[str, Fuzzed]]:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_directory())):
        yield {name: Fuzzed(base) for name, base in BASES.items()}


@pytest.mark.slow
@settings(
    max_examples=int(os.environ.get("NCEXP_FUZZ", "500")), deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_any_value_of_any_key_is_refused_by_name_or_trains(
    fuzzed: dict[str, Fuzzed], tmp_path: Path, data: st.DataObject
) -> None:
    """500 values; `NCEXP_FUZZ=2000 pytest -m slow tests/test_fuzz.py` tries more."""
    one = fuzzed[data.draw(st.sampled_from(sorted(fuzzed)))]
    one.work(f"outputs={tmp_path / 'outputs'}", *data.draw(one.cases))
    assert list(tmp_path.iterdir()) == []


FOUND = ["seed=18446744073709551616", "seed=${seed}", "seed=${nowhere}", "epochs=1" + "0" * 40, "batch_size=1",
         "batch_size=15", "optimizer.lr=1e308", "optimizer.lr=5e-324", "optimizer.weight_decay=1e308",
         "optimizer.schedule.decays=1000000000", "optimizer.schedule.factor=1e200", "optimizer.schedule.factor=1e-37",
         "loss.scale=1e-320", "loss._target_=builtins.dict", "loss._target_=types.SimpleNamespace",
         "optimizer.schedule._target_=types.SimpleNamespace", "analysis.collapse._target_=builtins.list",
         "architecture._target_=torch.nn.Linear", "architecture.hidden=[2147483647]", "dataset.num_features=2147483647",
         "device=cuda:99999999999999999999", "device=cuda:00", "outputs=/proc/x", "outputs=/dev/null",
         "outputs=" + "/a" * 3000, "dataset.name=../up", "tracking.experiment=''", "tracking.uri=''", "~evaluate_at.0",
         "dataset.sample_seed=9223372036854775808", "dataset=null", "dataset=[0]", "loss='${'"]  # fmt: skip


@pytest.mark.parametrize("override", FOUND, ids=lambda override: override[:40])
def test_value_that_was_met_with_a_traceback_is_refused(fuzzed: dict[str, Fuzzed], override: str) -> None:
    with pytest.raises((ConfigError, OmegaConfBaseException)) as caught:
        fuzzed["mlp"].prepare(override)
    key = re.split(r"[~=]", override.removeprefix("~"))[0]
    assert key in explain(caught.value)


def test_number_of_classes_beyond_any_memory_is_refused_at_once(fuzzed: dict[str, Fuzzed]) -> None:
    """Its class sizes were a list of as many numbers: 20 GB, and the process was killed."""
    with pytest.raises(ConfigError, match=r"dataset.examples_per_class: expected at most 16384 examples in all"):
        fuzzed["free"].prepare("dataset.num_classes=9223372036854775807")
