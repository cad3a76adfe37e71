"""How many floating-point operations some code carries out, without the import of torch's compiler."""

from __future__ import annotations

import inspect
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Operations(TorchDispatchMode):
    """Within it `total` counts sums and products of convolutions and matrix products, by torch's own formulas.

    As torch.utils.flop_counter.FlopCounterMode, which imports torch's compiler for it: two seconds, and 75 MB.
    """

    total = 0
    supports_higher_order_operators = True  # which are carried out, not counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry the operator out, as the operators that it consists of where it has no formula, and count it."""
        kwargs, formula = kwargs or {}, flop_registry.get(getattr(func, "overloadpacket", func))
        if formula is None and hasattr(func, "decompose"):
            with self:
                if (parts := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return parts
        result = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


# torch wraps the method of each such class in one that imports the compiler, so as to keep it from compiling this.
Operations.__torch_dispatch__ = inspect.unwrap(Operations.__torch_dispatch__)  # type: ignore[method-assign]
