"""Mixed precision: the forward passes of the networks, and nothing else, may compute in bfloat16."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound="Network")
P = ParamSpec("P")
R = TypeVar("R")


class Network(nn.Module):
    """A network that takes and returns float32, whatever it computes in.

    Poses, intrinsics, warps and losses stay outside of its forward pass, and so in float32: a pose of 5
    degrees multiplied in bfloat16 is off by a quarter of a pixel.

    Attributes:
        bf16: whether its forward pass runs under autocast to bfloat16.
    """

    bf16 = False


def mixed_precision(
    forward: Callable[Concatenate[N, Tensor, P], R],
) -> Callable[Concatenate[N, Tensor, P], R]:
    """A forward pass on an image, under autocast where the network's ``bf16`` says so."""

    @functools.wraps(forward)
    def run(self: N, image: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.bf16:
            return forward(self, image, *args, **kwargs)
        with torch.autocast(image.device.type, torch.bfloat16):
            return forward(self, image, *args, **kwargs)

    return run
