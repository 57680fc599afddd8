"""The settings of a training, from a recipe or footage, a YAML file, and single changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egodepth.core import config
from egodepth.core.errors import EgodepthError
from egodepth.data.sources import is_footage
from egodepth.runs.folder import RunFolder
from egodepth.settings.model import ModelSettings
from egodepth.settings.recipes import RECIPES, get_recipe
from egodepth.settings.training import TrainSettings

ADAPTATION = {"learning_rate": 1e-4, "decoder_rate": 1.0}
"""Settings of a training that starts from a run: at rates for networks that know nothing it would forget."""


def requested_settings(
    *what: str, config_file: Path | None = None, changes: Mapping[str, Any] | None = None
) -> TrainSettings:
    """Settings of a training: ``requested_settings("drive.mp4", changes={"data.fov": 60})``.

    Args:
        what: name of a recipe; or pieces of footage, which the recipe ``footage`` is then for. A recipe's name
            beats a file of that name.
        config_file: YAML of settings, which replace the recipe's.
        changes: by dotted name, which replace both. With ``init`` the model settings are that run's, and the
            learning rates those of ADAPTATION, where nothing else is given.

    Raises:
        EgodepthError: neither a recipe nor footage, a broken file, an unknown name or a wrong value.
    """
    typed = dict(changes or {})
    if len(what) > 1 or (what[0] not in RECIPES and is_footage(what[0])):
        if "data.sources" in typed:
            raise EgodepthError(
                f"footage is named twice: {' '.join(what)} and --data.sources; leave one of them out"
            )
        typed["data.sources"] = list(what)
        settings = get_recipe("footage")
    else:
        settings = get_recipe(what[0])
    init: Any = typed.get("init", settings.init)
    if str(init).lower() not in ("none", "null"):
        model = RunFolder.at(init).section(ModelSettings, "model")
        settings = settings.changed(model=model, **ADAPTATION)
    if config_file:
        settings = config.merge_file(settings, config_file)
    return config.override(settings, typed)
