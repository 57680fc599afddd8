"""What is imported when: heavy or rare packages only where they are used."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import write_images

RARE = (
    "av",
    "embreex",
    "onnx",
    "onnxruntime",
    "openvino",
    "pooch",
    "pycolmap",
    "rerun",
    "trimesh",
    "viser",
)
"""Packages that training on images and predicting do without, so that they run on a machine that lacks them."""
WITHOUT_RARE = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {RARE}:
            return self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
"""
TRAIN_AND_PREDICT = """
from pathlib import Path
import egodepth
from egodepth.core.config import override
from egodepth.inference.predict import predict_sequence, write_predictions
from tests.conftest import TINY

folder = Path(sys.argv[1])
sources = [str(folder / "frames")]
settings = override(egodepth.get_recipe("footage"), TINY | {
    "init": "none", "data.sources": sources, "data.fov": 60.0, "data.poses": "network",
    "data.cache": str(folder),
})
egodepth.train(settings, folder / "run")
run = egodepth.load(folder / "run")
predictions = predict_sequence(run, egodepth.read_source(sources[0])[0])
assert len(list(write_predictions(predictions, folder / "out", formats=("npz", "png")))) == 7
"""


def run_python(code: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_on_images_needs_no_rare_package(tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 7)
    run_python(WITHOUT_RARE + TRAIN_AND_PREDICT, str(tmp_path))
