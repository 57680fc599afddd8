"""Command lines with odd options, added to commands that are valid and quick."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from egodepth.core.config import list_settings
from egodepth.settings.training import TrainSettings

ODD_WORDS = (
    "-1", "0", "-0.0", "nan", "inf", "-inf", "1e308", "1e-308", "1e20", "3.5", "9" * 400, "9" * 5000, "1_000",
    " ", "0x10", "abc", "null", "true", "[1, 2", "{a: 1}", "[]", "*", "~", "builtin", "hf:x", "synthetic:-1",
    "&a [*a]", "a/b/c", "\udcff", "٣", "1,2", "--", "-", "x" * 5000, "%s", "\n", "a\tb", "1e999",
    "input/run", "input/mine", "input/frames", "input/loop", "input/file/a", "none", "auto", "cuda:7",
)  # fmt: skip
"""Values of options; paths lead to what is not expected there."""
FOOTAGE = (
    "--fov", "--camera", "--sequence", "--rate", "--device", "--speed", "--camera_height", "--gps",
    "--distance", "--out",
)  # fmt: skip
COMMANDS: dict[str, tuple[str, ...]] = {
    "predict RUN FRAMES --out OUT --formats png": (*FOOTAGE, "--formats", "--backend"),
    "odometry RUN FRAMES --fov 60 --out OUT": (*FOOTAGE, "--window", "--plot", "--by"),
    "refine RUN MINE --iterations 0 --out OUT": (
        "--mode", "--iterations", "--epochs", "--learning_rate", "--protocol", *FOOTAGE,
    ),
    "evaluate depth RUN --data MINE": (
        "--data", "--protocol", "--scaling", "--crop", "--max_depth", "--split", "--kind", "--json", "--csv",
        "--worst", "--plot_confidence", "--sequence", "--device",
    ),
    "evaluate odometry POSES --truth POSES": (
        "--data", "--truth", "--by", "--alignment", "--max_apart", "--json", "--plot", "--plot_errors",
        "--rate",
    ),
    "judge synthetic:100 --count 1 --losses method=photometric --common model.height=64&model.width=96": (
        "--losses", "--base", "--common", "--frames", "--count", "--progress", "--json", "--sequence",
    ),
    "confidence RUN FRAMES --fov 60 --steps 1 --out OUT": ("--steps", "--fov", "--camera", "--device"),
    "landscape RUN MINE --frame 1 --count 3 --out OUT": (
        "--frame", "--pixel", "--count", "--offset", "--radius", "--step", "--level", "--seed", *FOOTAGE,
    ),
    "export points RUN FRAMES --fov 60 --out OUT.ply": ("--every", "--depth", *FOOTAGE),
    "export mesh RUN FRAMES --fov 60 --out OUT.obj": ("--every", "--depth", "--voxel", *FOOTAGE),
    "export colmap RUN FRAMES --fov 60 --every 1 --out OUT": ("--every", "--depth", "--mask", *FOOTAGE),
    "export nerfstudio RUN FRAMES --fov 60 --every 1 --out OUT": ("--every", "--depth", "--mask", *FOOTAGE),
    "export onnx RUN --out OUT.onnx": ("--out", "--opset", "--batch"),
    "export hub RUN --out OUT": ("--out",),
    "report RUN --out OUT.html": ("--out",),
    "leaderboard MINE": ("--out",),
    "data check FRAMES --out OUT.png": ("--out", "--sequence"),
    "import featdepth FRAMES --out OUT": ("--height", "--width", "--out"),
    "view NOTHING FRAMES": ("--port", "--fov", "--camera", "--speed", "--fps", "--device"),
    "ros RUN": ("--image", "--camera_info", "--metres_per_unit", "--device"),
    "demo --out OUT": ("--minutes", "--init", "--seed", "--out"),
    "pretrain --out OUT --init MINE": ("--minutes", "--hours", "--init", "--seed", "--workers", "--batch_size"),
    "train NOTHING --out OUT": ("--resume", "--config", "--recipe"),
}  # fmt: skip
"""Commands and their options. Those that would take long end in an error of their own."""


@cache
def _settings() -> tuple[str, ...]:
    return tuple(f"--{setting.name}" for setting in list_settings(TrainSettings()))


def odd_option(path: Path, rng: np.random.Generator) -> None:
    """Write a command with one or two odd options, or odd words in place of its own."""
    words, options = list(COMMANDS.items())[int(rng.integers(len(COMMANDS)))]
    given = [word.replace("&", " ") for word in words.split()]
    if given[0] == "train":
        options += _settings()
    if given[0] == "demo":  # which would run for minutes without it
        given += ["--minutes", "0.1"]
    for _ in range(int(rng.integers(1, 3))):
        odd = ODD_WORDS[int(rng.integers(len(ODD_WORDS)))]
        if rng.random() < 0.25:
            place = int(rng.integers(1, len(given)))
            if given[0] not in ("demo", "pretrain"):
                given[place] = odd
        else:
            name = options[int(rng.integers(len(options)))]
            given += [name, odd] if name != "--resume" else [name]
    path.write_text(json.dumps(given))


def command_of(folder: Path) -> list[str]:
    """The words of the command line, with its places."""
    places = {
        "RUN": folder / "run", "FRAMES": folder / "frames", "MINE": folder / "mine",
        "POSES": folder / "mine" / "poses.txt", "NOTHING": folder / "nothing_is_here",
    }  # fmt: skip
    words = json.loads((folder / "words.json").read_text())
    out = str(folder.parent / "out")
    return [str(places.get(word, word.replace("OUT", out))) for word in words]
