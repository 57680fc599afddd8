"""Import published checkpoints as run folders, usable like any other run."""

from dataclasses import dataclass
from pathlib import Path

import torch

from egodepth.core import config
from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path
from egodepth.core.provenance import provenance
from egodepth.models.published import read_published
from egodepth.runs.checkpoint import networks_checkpoint
from egodepth.runs.destination import check_output_folder, claim_folder
from egodepth.runs.folder import RunFolder
from egodepth.runs.motion_gap import MotionGap
from egodepth.settings.training import TrainSettings

PUBLISHED_GAP = MotionGap(1, 0.1)
"""The published networks were trained on consecutive KITTI frames, at 10 frames per second."""


@dataclass(frozen=True)
class ImportResult:
    """Result of an import.

    Attributes:
        run: run folder.
        networks: names of the networks in the file.
        mapped: number of imported checkpoint entries.
        unused: names of entries that no network uses.
    """

    run: Path
    networks: list[str]
    mapped: int
    unused: list[str]


def import_featdepth(
    path: Path, out: Path, *, height: int = 320, width: int = 1024
) -> ImportResult:
    """Make a run folder from a checkpoint of the authors' FeatDepth implementation.

    Args:
        path: checkpoint of DepthNet, PoseNet and feature extractor, or of the stand-alone auto-encoder.
        out: run folder to make.
        height, width: image size in training, which the checkpoint does not contain.

    Raises:
        EgodepthError: a missing or broken file, missing or unexpected entries, or a folder that
            already contains a run.
    """
    run = RunFolder.to_make(out)
    check_output_folder(run.path, for_run=True)
    if run.checkpoint.exists():
        raise EgodepthError(f"{out} already holds a run; name another folder with --out")
    if height % 32 or width % 32 or min(height, width) < 32:
        raise EgodepthError(f"height and width must be multiples of 32, got {height} and {width}")
    published = read_published(path, height=height, width=width)
    networks = published.networks
    has_depth = networks.depth is not None
    settings = TrainSettings(
        recipe="imported", method="joint" if has_depth else "features", model=published.settings
    )
    with claim_folder(run.path, for_run=True):
        config.save(settings, run.config)
        run.write_facts({**provenance(), "imported": str(path), **PUBLISHED_GAP.facts()})
        with atomic_path(run.checkpoint, durable=True) as partial:
            torch.save(networks_checkpoint(networks), partial)
    found = [name for name, part in networks.named_children() if part is not None]
    return ImportResult(out, found, published.mapped, published.unused)
