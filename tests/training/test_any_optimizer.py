"""`optimizer=module`: any class by its name, every public one of torch's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from any_optimizer import CLOSED, REFUSED, chosen, torchs
from support import Compose
from torch import nn

from ncexp.config import ConfigError, check
from ncexp.config.trusted_code import refuse_strange_code
from ncexp.training import assemble
from ncexp.training.closures import lbfgs, needs_closure


@pytest.mark.parametrize("name", torchs())
def test_every_optimizer_of_torch_trains_an_epoch_or_is_refused(composed: Compose, name: str) -> None:
    config = check(composed(*chosen(name), base=CLOSED))
    if name in REFUSED:
        with pytest.raises(ConfigError, match=f"optimizer._target_: expected .*{REFUSED[name]}"):
            assemble(config)
        return
    ours = assemble(config).training
    before = {key: one.clone() for key, one in ours.network.state_dict().items()}
    assert math.isfinite(ours.run_epoch(lambda: False)["fit/loss"])
    assert not all(torch.equal(before[key], tensor) for key, tensor in ours.network.state_dict().items())


def test_class_by_name_gets_its_options_a_list_for_a_tuple(composed: Compose) -> None:
    given = composed(*chosen("NAdam"), "+optimizer.betas=[0.5,0.75]", "+optimizer.weight_decay=0.25", base=CLOSED)
    (group,) = assemble(check(given)).training.optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.5, 0.75), 0.25, 1e-3)
    with pytest.raises(ConfigError, match=r"optimizer\.beta: no such key\. Valid: .*Did you mean betas\?"):
        check(composed(*chosen("NAdam"), "+optimizer.beta=0.5", base=CLOSED))
    with pytest.raises(ConfigError, match=r"got torch\.optim\.NAdam \(Invalid weight_decay value: -1"):
        assemble(check(composed(*chosen("NAdam"), "+optimizer.weight_decay=-1.0", base=CLOSED)))


def test_needs_closure_is_read_off_the_step() -> None:
    parameters = [nn.Parameter(torch.ones(2))]
    assert needs_closure(torch.optim.LBFGS(parameters))
    assert needs_closure(lbfgs(parameters))
    assert not needs_closure(torch.optim.Adam(parameters))


@pytest.mark.parametrize("target", ["torch.optim.NAdam", "ncexp.training.closures.sam"])
def test_optimizers_of_torch_and_ours_are_trusted_where_a_run_names_them(target: str) -> None:
    refuse_strange_code({"optimizer": {"_target_": target}}, Path("config.yaml"))
    for strange in ("torch.optim.lr_scheduler.LRScheduler", "torch.load"):
        with pytest.raises(ConfigError, match="expected one of ncexp's own"):
            refuse_strange_code({"optimizer": {"_target_": strange}}, Path("config.yaml"))
