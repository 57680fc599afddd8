from pathlib import Path

import pytest

from egodepth.core import config
from egodepth.core.errors import EgodepthError
from egodepth.settings.recipes import RECIPES, get_recipe
from egodepth.settings.training import TrainSettings


def test_every_setting_has_a_help_text() -> None:
    settings = list(config.list_settings(TrainSettings()))
    assert len(settings) > 30
    assert [s.name for s in settings if not s.help] == ["recipe"] or all(s.help for s in settings)


def test_override_parses_by_type() -> None:
    changed = config.override(
        TrainSettings(),
        {
            "data.stride": "2",
            "data.sources": "[a.mp4, b]",
            "data.root": "3",
            "automask": "false",
            "minutes": "null",
            "loss.feature_metric": "1e-2",
            "learning_rate": "1e-4",
        },
    )
    assert changed.data.stride == 2 and changed.data.sources == ("a.mp4", "b")
    assert changed.data.root == Path("3")
    assert changed.automask is False and changed.minutes is None
    assert (changed.loss.feature_metric, changed.learning_rate) == (1e-2, 1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.strid": "2"}, "unknown setting 'data.strid'; did you mean 'data.stride'"),
        ({"stride": "2"}, "did you mean 'data.stride'"),
        (
            {"data.stride": "two"},
            "data.stride = 'two': Input should be 'auto' or Input should be a valid",
        ),
        ({"data.stride": "0"}, "data.stride = 0: "),
        ({"data.poses": "slam"}, "'network', 'aligned', 'sfm', 'given' or 'auto'"),
        ({"model.height": "100"}, "multiple of 32"),
        ({"method": "magic"}, "'joint', 'frozen', 'photometric', 'images' or 'features'"),
        ({"feature_run": "runs/x"}, "feature_run is for method frozen alone"),
        ({"loss.feature_levels": "[0, 0]"}, "needs one share above zero"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(EgodepthError) as error:
        config.override(TrainSettings(), changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_yaml_round_trip(tmp_path: Path) -> None:
    for name in RECIPES:
        settings = get_recipe(name)
        config.save(settings, tmp_path / "config.yaml")
        assert config.load(TrainSettings, tmp_path / "config.yaml") == settings


def test_files_override_recipes_and_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("loss: {feature_metric: 0.5}\nsteps: 7\n")
    merged = config.merge_file(get_recipe("kitti_small"), path)
    assert merged.steps == 7 and merged.loss.feature_metric == 0.5
    assert merged.data.sources == get_recipe("kitti_small").data.sources
    path.write_text("loss: {feature_metrik: 0.5}\n")
    with pytest.raises(EgodepthError, match=r"loss\.feature_metrik.*did you mean"):
        config.merge_file(TrainSettings(), path)
    path.write_text("loss: [")
    with pytest.raises(EgodepthError, match="not valid YAML"):
        config.merge_file(TrainSettings(), path)
    path.write_text("loss: 3")
    with pytest.raises(EgodepthError, match="loss"):
        config.merge_file(TrainSettings(), path)


def test_settings_that_were_renamed_are_read_and_told(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("loss: {standing: 0.07, dense: 2.0}\n")
    for read in (config.load(TrainSettings, path), config.merge_file(get_recipe("footage"), path)):
        assert (read.loss.ground_contact, read.loss.dense) == (0.07, 2.0)
    with pytest.raises(EgodepthError, match=r"loss\.standing is called loss\.ground_contact now"):
        config.override(TrainSettings(), {"loss.standing": "0.1"})
    config.save(TrainSettings(), path)
    assert "standing" not in path.read_text()


def test_unknown_recipe() -> None:
    with pytest.raises(EgodepthError, match="neither a recipe"):
        get_recipe("kitti_smal")


def test_changes_are_names_and_values() -> None:
    with pytest.raises(EgodepthError, match=r"must be names and values.*got \['data\.fov'\]"):
        config.override(TrainSettings(), ["data.fov"])  # type: ignore[arg-type]


def test_changes_are_checked() -> None:
    settings = TrainSettings()
    changed = settings.changed(steps=5, data={"fov": 70}, loss=settings.loss.changed(coarse=0))
    assert (changed.steps, changed.data.fov, changed.loss.coarse) == (5, 70.0, 0.0)
    assert changed.data.stride == settings.data.stride and settings.changed() == settings
    with pytest.raises(EgodepthError, match=r"steps = -3: .*greater than or equal to 1"):
        settings.changed(steps=-3)
    with pytest.raises(EgodepthError, match=r"data\.fov = 500"):
        settings.changed(data={"fov": 500})
    with pytest.raises(EgodepthError, match=r"unknown setting 'stepz'.*did you mean 'steps'"):
        settings.changed(stepz=3)
    with pytest.raises(EgodepthError, match=r"unknown setting 'data\.height'"):
        settings.changed(data=settings.model)
    with pytest.raises(
        EgodepthError, match=r"steps = 'many'"
    ):  # pydantic's own way is no way around
        settings.model_copy(update={"steps": "many"})
    with pytest.raises(EgodepthError, match="feature_run is for method frozen alone"):
        settings.changed(feature_run=Path("run"))
