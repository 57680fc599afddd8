"""Training settings from a recipe or footage, a YAML file, and single changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egodepth.core import config, progress
from egodepth.core.errors import EgodepthError
from egodepth.data.sources import is_footage
from egodepth.runs.folder import RunFolder
from egodepth.settings.model import DEFINED_BY, ModelSettings
from egodepth.settings.recipes import (
    BUILTIN,
    FROM_BUILTIN,
    RECIPES,
    get_recipe,
    imagenet_recipe,
    start_from,
    worlds,
)
from egodepth.settings.training import TrainSettings


def requested_settings(
    *what: str, config_file: Path | None = None, changes: Mapping[str, Any] | None = None
) -> TrainSettings:
    """Build training settings: ``requested_settings("drive.mp4", changes={"data.fov": 60})``.

    Args:
        what: a recipe name, or footage to train on with the recipe ``footage``. A recipe takes precedence
            over a file of the same name.
        config_file: YAML file with settings that override the recipe.
        changes: settings by dotted name that override both. ``init``, here or in the file, also sets the model
            settings to those of that run and the learning rates to ADAPTATION, unless they are overridden.

    With the recipe ``footage``, the size of the network input is fitted to the footage (``data.fit_size``),
    unless a size is set here, or the training starts from a run of one size.
    A recipe that starts from ``builtin`` starts from ImageNet weights, with a note, if other networks are asked
    for.

    Raises:
        EgodepthError: neither a recipe nor footage, a broken file, an unknown name or an invalid value.
    """
    typed, name = dict(changes or {}), what[0]
    if len(what) > 1 or (name not in RECIPES and is_footage(name)):
        if "data.sources" in typed:
            raise EgodepthError(
                f"footage is named twice: {' '.join(what)} and --data.sources; leave one of them out"
            )
        typed["data.sources"] = list(what)
        name = "footage"

    def applied(settings: TrainSettings) -> TrainSettings:
        if config_file:
            settings = config.merge_file(settings, config_file)
        return config.override(settings, typed)

    asked = applied(get_recipe(name))
    known, model = worlds().model, asked.model
    defining = (*DEFINED_BY["depth"], *DEFINED_BY["pose"])
    other = [each for each in defining if getattr(model, each) != getattr(known, each)]
    if name in FROM_BUILTIN and str(asked.init) == BUILTIN and "init" not in typed and other:
        progress.note(
            f"starting from ImageNet weights: {BUILTIN} has other networks (model.{', model.'.join(other)})"
        )
        typed["init"] = "none"
        asked = asked.changed(init=None)
    base, fits = imagenet_recipe(name), name == "footage"
    if asked.init is not None:
        run = RunFolder.at(asked.init)
        base = start_from(base, asked.init, run.section(ModelSettings, "model"))
        fits = fits and bool(run.facts().sizes)
    larger = base.model.changed(height=base.model.height + 32, width=base.model.width + 32)
    small, large = applied(base).model, applied(base.changed(model=larger)).model
    fits = fits and small.height != large.height and small.width != large.width  # else it is set
    return applied(base.changed(data=base.data.changed(fit_size=fits)))
