from pathlib import Path

import pytest

from egodepth.cli.parsing import COMMANDS, load_command
from egodepth.core import config
from egodepth.core.allowed import allowed
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
        ({"mdl.heightt": "2"}, "did you mean 'model.height'"),
        ({"data.1": "2"}, "unknown setting 'data.1'; see `egodepth train --help`"),
        (
            {"data.stride": "two"},
            "data.stride must be auto or a whole number of at least 1, got 'two'",
        ),
        ({"data.stride": "0"}, "data.stride must be auto or a whole number of at least 1, got 0"),
        (
            {"data.poses": "gps"},
            "must be one of network, aligned, sfm, slam, given or auto, got 'gps'",
        ),
        (
            {"model.height": "100"},
            "a whole number of at least 32 and up to 8192 and a multiple of 32, got 100",
        ),
        ({"method": "magic"}, "must be one of joint, frozen, photometric, images or features"),
        ({"data.fov": "200"}, "data.fov must be a number above 0 and up to 170 or null, got 200"),
        ({"steps": "1.5"}, "steps must be a whole number of at least 1, got 1.5"),
        ({"steps": "true"}, "steps must be a whole number of at least 1, got true"),
        ({"learning_rate": ".inf"}, "learning_rate must be a finite number above 0, got inf"),
        ({"automask": "maybe"}, "automask must be true or false, got 'maybe'"),
        ({"data.sources": "drive.mp4"}, "data.sources must be a list of strings, got 'drive.mp4'"),
        ({"data.sources": "[a, 3]"}, "data.sources must be a list of strings, got ['a', 3]"),
        (
            {"model.pose_size": "[96]"},
            "must be a list of 2 whole numbers of at least 1 or null, got [96]",
        ),
        (
            {"model.pose_size": "[1, 2, 3]"},
            "must be a list of 2 whole numbers of at least 1 or null, got [1",
        ),
        ({"loss.feature_levels": "[-1]"}, "must be a list of numbers of at least 0, got [-1]"),
        ({"loss.feature_levels": "[true]"}, "must be a list of numbers of at least 0, got"),
        ({"model.depth_model_config": "3"}, "must be names and values, got 3"),
        ({"feature_run": "runs/x"}, "feature_run is for method frozen alone"),
        ({"loss.feature_levels": "[0, 0]"}, "needs one share above zero"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(EgodepthError) as error:
        config.override(TrainSettings(), changes)
    assert message in str(error.value)
    assert not any(word in str(error.value) for word in ("\n", "Input", "valid", "Value error"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: 5", "data must be names and values, got 5"),
        ("data:", "data must be names and values, got null"),
        ("data: {mask: no}", "data.mask must be a string, got false"),
        ("data: {camera: [a]}", "data.camera must be a path or null, got ['a']"),
        ("loss: {feature_levels: [0]}", "loss.feature_levels needs one share above zero"),
        ("data: {strid: 2}", "unknown setting 'data.strid' in {path}; did you mean 'data.stride'?"),
        ("heightt: 64", "unknown setting 'heightt' in {path}; did you mean 'model.height'?"),
        ("1: 2", "unknown setting '1' in {path}; see"),
    ],
)
def test_a_file_of_bad_settings_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    for read in (config.merge_file, lambda _, path: config.load(TrainSettings, path)):
        with pytest.raises(EgodepthError) as error:
            read(TrainSettings(), path)
        assert message.format(path=path) in str(error.value) and str(path) in str(error.value)


def test_every_kind_of_setting_can_be_put_in_words() -> None:
    for name in COMMANDS:
        for field in load_command(name).model_fields.values():
            assert allowed(field.annotation, field.metadata)
    for setting in config.list_settings(TrainSettings()):
        assert "names and values" not in allowed(setting.annotation) or "config" in setting.name


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
    with pytest.raises(EgodepthError, match=r"steps must be .*at least 1, got -3"):
        settings.changed(steps=-3)
    with pytest.raises(EgodepthError, match=r"data\.fov must be .*got 500"):
        settings.changed(data={"fov": 500})
    with pytest.raises(EgodepthError, match=r"unknown setting 'stepz'.*did you mean 'steps'"):
        settings.changed(stepz=3)
    with pytest.raises(EgodepthError, match=r"unknown setting 'data\.height'"):
        settings.changed(data=settings.model)
    with pytest.raises(
        EgodepthError, match=r"steps must be .*got 'many'"
    ):  # pydantic's own way is no way around
        settings.model_copy(update={"steps": "many"})
    with pytest.raises(EgodepthError, match="feature_run is for method frozen alone"):
        settings.changed(feature_run=Path("run"))
