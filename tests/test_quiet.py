"""Other packages do not write to the user's terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MISSING_RUNTIME = "No CUDA runtime is found"


def said(code: str, folder: Path) -> str:
    (folder / "cuda").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"CUDA_HOME": str(folder / "cuda")},
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_a_missing_cuda_runtime_is_not_told(tmp_path: Path) -> None:
    torch_alone = said("import torch.utils.cpp_extension", tmp_path)
    if MISSING_RUNTIME not in torch_alone:
        pytest.skip("this PyTorch or machine says nothing of it")
    quiet = "from egodepth.core.quiet import quiet_loggers; quiet_loggers(); "
    assert said(quiet + "import torch.utils.cpp_extension", tmp_path) == ""


ADJUST = """
from egodepth.data.preparation.shared_camera import _adjust
from egodepth.data.preparation.structure_from_motion import require_colmap
colmap = require_colmap()
options = colmap.SyntheticDatasetOptions(num_frames_per_rig=8, num_points3D=100)
model = colmap.synthesize_dataset(options)
for camera in model.cameras.values():
    camera.params = [1.02 * camera.params[0], *camera.params[1:]]
model.update_point_3d_errors()
before = model.compute_mean_reprojection_error()
_adjust(colmap, model)
model.update_point_3d_errors()
after = model.compute_mean_reprojection_error()
assert after < 0.5 * before, (before, after)
assert colmap.logging.minloglevel == colmap.logging.FATAL.value
"""


def test_bundle_adjustment_logs_nothing(tmp_path: Path) -> None:
    """``pycolmap.bundle_adjustment`` resets the level of the log, and tells of its beginning and end."""
    pytest.importorskip("pycolmap")
    assert said(ADJUST, tmp_path) == ""
