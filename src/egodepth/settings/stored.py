"""Settings as a training stored them in its run folder."""

from pathlib import Path
from typing import Any

from egodepth.core.files import parse_yaml, read_text, reading
from egodepth.settings.model import ModelSettings
from egodepth.settings.training import TrainSettings


def read_whole_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a run as names and values, unchecked but for being whole.

    A training writes all of its settings: where those of the networks, or the last of all, are missing,
    defaults would stand in for what was lost.

    Raises:
        EgodepthError: a missing or broken file, or one that was emptied or cut off.
    """
    what = "the file of the run's settings"
    text = read_text(path, what)
    with reading(path, what):
        tree = parse_yaml(text)
        model = tree.get("model") if isinstance(tree, dict) else None
        if not isinstance(model, dict):
            raise ValueError("it is empty or cut off: it lacks the settings of the networks")
        missing = [f"model.{name}" for name in ModelSettings.model_fields if name not in model]
        missing += [name for name in list(TrainSettings.model_fields)[-1:] if name not in tree]
        if missing or not text.endswith("\n"):
            raise ValueError(f"it is cut off: it lacks {', '.join(missing[:3]) or 'its end'}")
    return tree
