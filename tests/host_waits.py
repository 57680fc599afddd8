"""What makes the host wait for a GPU, seen on fake CUDA tensors: without a GPU, and by the line of code."""

import traceback
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
LOOKS = (aten._local_scalar_dense.default, aten.is_nonzero.default, aten.nonzero.default,
         aten.masked_select.default, aten.equal.default, aten._linalg_check_errors.default)  # fmt: skip
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXES = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
           aten._index_put_impl_.default)  # fmt: skip


class HostWaits(TorchDispatchMode):
    """Operations at which the host waits until the GPU has done all that it was asked for: looks at values,
    copies that are not told not to block, indices whose number only the GPU knows.

    Attributes:
        found: operation and line of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Note the operation where it makes the host wait."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._waits(func, args, kwargs, result):
            self.found.append(f"{func} in {_line()}")
        return result

    def _waits(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        kinds = {t.device.type for t in tensors}
        if func in LOOKS:
            return "cuda" in kinds
        if func in COPIES:
            kinds |= {t.device.type for t in tree_leaves(result)}
            kept_going = kwargs.get("non_blocking") or (func is COPIES[1] and args[2:] == (True,))
            return len(kinds) > 1 and not kept_going
        if func in INDEXES and "cuda" in kinds:
            chosen = [t for t in tree_leaves(args[1]) if isinstance(t, Tensor)]
            return any(t.device.type == "cpu" or t.dtype == torch.bool for t in chosen)
        return False


def _line() -> str:
    for frame in reversed(traceback.extract_stack()):
        if "/src/egodepth/" in frame.filename:
            return f"{frame.filename}:{frame.lineno}"
    return "PyTorch"
