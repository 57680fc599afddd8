"""Training settings from a recipe or footage, a YAML file, and single changes."""

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
"""Settings for training from an existing run: learning rates low enough not to forget what it learned."""


def requested_settings(
    *what: str, config_file: Path | None = None, changes: Mapping[str, Any] | None = None
) -> TrainSettings:
    """Build training settings: ``requested_settings("drive.mp4", changes={"data.fov": 60})``.

    Args:
        what: a recipe name, or footage to train on with the recipe ``footage``. A recipe takes precedence
            over a file of the same name.
        config_file: YAML file with settings that override the recipe.
        changes: settings by dotted name that override both. ``init`` also sets the model settings to those of
            that run and the learning rates to ADAPTATION, unless they are overridden.

    Raises:
        EgodepthError: neither a recipe nor footage, a broken file, an unknown name or an invalid value.
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
