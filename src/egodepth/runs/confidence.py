"""The confidence head of a run, in a file of its own beside the networks."""

from torch import Tensor

from egodepth.core.errors import EgodepthError
from egodepth.core.files import reading
from egodepth.models.confidence import ConfidenceHead
from egodepth.models.networks import DepthNet
from egodepth.models.transformers_depth import TransformersDepth
from egodepth.runs.checkpoint import read_weights, write_weights
from egodepth.runs.folder import RunFolder


def read_confidence(
    folder: RunFolder, depth: DepthNet | TransformersDepth
) -> ConfidenceHead | None:
    """The confidence head of a run, in evaluation mode on the CPU; None if it has none.

    Raises:
        EgodepthError: a broken file, or one of another DepthNet.
    """
    if not folder.confidence.exists():
        return None
    state = {name: value.float() for name, value in read_weights(folder.confidence).items()}
    head = ConfidenceHead.of(depth)
    if _shapes(state) != _shapes(head.state_dict()):
        raise EgodepthError(
            f"{folder.confidence} does not fit the DepthNet of {folder}: delete it, or make it anew by: "
            f"egodepth confidence {folder} FOOTAGE"
        )
    with reading(folder.confidence, "the weights of the confidence"):
        head.load_state_dict(state)
    return head.eval()


def no_confidence(folder: RunFolder) -> EgodepthError:
    """The error that a run has no confidence."""
    return EgodepthError(
        f"{folder} has no confidence; make it by: egodepth confidence {folder} FOOTAGE"
    )


def write_confidence(folder: RunFolder, head: ConfidenceHead) -> None:
    """Write the confidence head of a run.

    Raises:
        EgodepthError: the file can't be written.
    """
    write_weights(head, folder.confidence)


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
