"""Settings as a training stored them in its run folder."""

import re
from pathlib import Path
from typing import Any

from egodepth.core.config import count_settings
from egodepth.core.files import parse_yaml, read_text, reading
from egodepth.settings.model import ModelSettings
from egodepth.settings.training import TrainSettings

END = re.compile(r"^# end of (\d{1,9}) settings\n\Z", re.M)
"""Last line of a file that :func:`egodepth.core.config.save` wrote."""
BEFORE_END_LINES = (
    "height", "width", "depth_encoder", "pose_encoder", "feature_encoder", "depth_decoder", "depth_model",
    "depth_model_config", "pretrained", "decoder_channels", "min_depth", "max_depth", "start_depth",
    "pose_decoder", "pose_size",
)  # fmt: skip
"""Settings of the networks when files had no such line; ``checkpoint_every`` was the last setting of all."""


def read_whole_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a run as names and values, unchecked but for being whole.

    A training writes all of the settings that its version has: where some of these are missing, defaults
    would stand in for what was lost. Settings that were added since may be missing.

    Raises:
        EgodepthError: a missing or broken file, or one that was emptied, cut off, or lost some settings.
    """
    what = "the file of the run's settings"
    text = read_text(path, what)
    with reading(path, what):
        tree = parse_yaml(text)
        model = tree.get("model") if isinstance(tree, dict) else None
        if not isinstance(model, dict):
            raise ValueError("it is empty or cut off: it lacks the settings of the networks")
        end = END.search(text)
        if end is not None:
            lost = int(end[1]) - count_settings(tree)
            absent = [f"model.{name}" for name in ModelSettings.model_fields if name not in model]
            absent += [name for name in TrainSettings.model_fields if name not in tree]
            if lost > 0:
                such = f", such as {absent[0]}" if absent else ""
                raise ValueError(
                    f"it lacks {lost} of the {end[1]} settings that were written{such}"
                )
        else:
            absent = [f"model.{name}" for name in BEFORE_END_LINES if name not in model]
            absent += ["checkpoint_every"] * ("checkpoint_every" not in tree)
            if absent or not text.endswith("\n"):
                raise ValueError(f"it is cut off: it lacks {', '.join(absent[:3]) or 'its end'}")
    return tree
