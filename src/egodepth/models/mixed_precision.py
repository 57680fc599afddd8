"""Mixed precision: only the forward passes of the networks may run in bfloat16."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound="Network")
P = ParamSpec("P")
R = TypeVar("R")


class Network(nn.Module):
    """A network with float32 inputs and outputs, whatever precision it runs in.

    Poses, intrinsics, warps and losses stay outside its forward pass, and hence in float32: a rotation of 5
    degrees applied in bfloat16 is off by a quarter of a pixel.

    Attributes:
        bf16: whether its forward pass runs under autocast to bfloat16.
    """

    bf16 = False


def mixed_precision(
    forward: Callable[Concatenate[N, Tensor, P], R],
) -> Callable[Concatenate[N, Tensor, P], R]:
    """Decorate a forward pass on an image to run under autocast if the network's ``bf16`` is set."""

    @functools.wraps(forward)
    def run(self: N, image: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.bf16:
            return forward(self, image, *args, **kwargs)
        with torch.autocast(image.device.type, torch.bfloat16):
            return forward(self, image, *args, **kwargs)

    return run
