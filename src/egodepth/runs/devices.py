"""Choice of device and precision."""

import torch

from egodepth.core.errors import EgodepthError


def choose_device(device: str) -> tuple[str, list[int]]:
    """Return Lightning's accelerator and device indices; the CPU counts as one device.

    Raises:
        EgodepthError: there is no such device.
    """
    kind, _, index = device.partition(":")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu", [0]
    if kind not in ("auto", "cuda") or (index and not index.isdigit()):
        raise EgodepthError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        raise EgodepthError(f"there is no device {device}: this machine has {count} CUDA devices")
    return "cuda", [int(index or 0)]


def torch_device(device: str) -> torch.device:
    """Return the PyTorch device for a device setting; see :func:`choose_device`."""
    accelerator, devices = choose_device(device)
    return torch.device("cpu" if accelerator == "cpu" else f"cuda:{devices[0]}")


def choose_precision(precision: str, accelerator: str) -> str:
    """Return the precision of the networks, ``bf16`` or ``float32``; ``auto`` means bfloat16 if the hardware
    supports it natively."""
    if precision != "auto":
        return precision
    if accelerator == "cpu":
        native = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    else:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "float32"
