"""The command line as a whole: every command is a typed class, parsed by one library."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from tests.test_imports import run_python

from egodepth.cli import main
from egodepth.cli.command import Command, Metavar, OptionsOf, Positional
from egodepth.cli.parsing import COMMANDS, UsageError, load_command, option_of, parse
from egodepth.cli.predict import Predict
from egodepth.cli.train import Train

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
"""As it is made: tests/test_readme.py."""
HEAVY = ("torch", "cv2", "numpy", "scipy", "lightning", "matplotlib", "timm", "av", "PIL")


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = f"""
import sys
from egodepth.cli import main
from egodepth.cli.parsing import COMMANDS
assert main(["--help"]) == 0
for name in COMMANDS:
    assert main([*name.split(), "--help"]) == 0
assert not {set(HEAVY)} & set(sys.modules), {set(HEAVY)} & set(sys.modules)
"""
    assert run_python(code).count("Usage: egodepth") == len(COMMANDS) + 1


def test_two_trajectory_files_are_scored_without_pytorch(tmp_path: Path) -> None:
    for name, scale in (("a.txt", 1.0), ("b.txt", 1.1)):
        rows = [f"{i / 10} {scale * i} {i % 3} 0 0 0 0 1" for i in range(30)]
        (tmp_path / name).write_text("\n".join(rows))
    code = """
import sys
from egodepth.cli import main
a, b, out = (f"{sys.argv[1]}/{name}" for name in ("a.txt", "b.txt", "c.json"))
assert main(["evaluate", "odometry", a, "--truth", b, "--json", out]) == 0
assert not {"torch", "lightning", "timm", "matplotlib"} & set(sys.modules)
"""
    assert "30" in run_python(code, str(tmp_path))
    assert (tmp_path / "c.json").exists()


def test_what_is_typed_becomes_a_typed_command() -> None:
    words = "predict run drive.mp4 --out o --camera-height 1.5 --formats npz exr --device=cpu"
    command = parse(shlex.split(words))
    assert command == Predict(
        run_folder=Path("run"), source="drive.mp4", out=Path("o"), camera_height=1.5,
        formats=("npz", "exr"), device="cpu",
    )  # fmt: skip
    assert command == parse(shlex.split(words.replace("camera-height", "camera_height")))


def test_settings_are_read_as_they_are_typed() -> None:
    words = ("train a.mp4 b.mp4 --out r --data.sources '[x, y]' --minutes null --automask false "
             "--loss.ground-contact 0.1 --fov 60 --method photometric --estimate")  # fmt: skip
    command = parse(shlex.split(words))
    assert isinstance(command, Train) and command.estimate and command.what == ("a.mp4", "b.mp4")
    assert command.changes == {
        "data.sources": "[x, y]", "minutes": "null", "automask": "false",
        "loss.ground_contact": "0.1", "data.fov": "60", "method": "photometric",
    }  # fmt: skip


def test_an_option_has_one_default_and_one_form_everywhere() -> None:
    seen: dict[str, tuple[object, object, object]] = {}
    for name in COMMANDS:
        for option, field in load_command(name).model_fields.items():
            metavar = next((m.text for m in field.metadata if isinstance(m, Metavar)), "")
            form = (field.annotation, field.default, metavar)
            if option in ("sequence", "fov", "camera", "device", "fps", "seed", "port", "speed"):
                assert seen.setdefault(option, form) == form, (name, option)
            assert field.description, (name, option)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predct", "unknown command 'predct'; did you mean 'predict'?"),
        ("export msh a b", "unknown command 'msh'; did you mean 'mesh'?"),
        ("evaluate", "evaluate needs one of depth, odometry after it"),
        ("predict", "RUN is missing: folder of a trained run"),
        ("predict r", "SOURCE is missing: footage"),
        ("predict r s", "--out is missing: folder to write to"),
        ("predict r s t --out o", "unexpected 't'"),
        ("predict r s --out", "--out needs a value"),
        ("predict r s --out o --camera_hight 2", "did you mean --camera_height?"),
        ("predict r s --out o --fov x", "--fov must be a number above 0 and up to 170, got 'x'"),
        (
            "predict r s --out o --fov 180",
            "--fov must be a number above 0 and up to 170, got '180'",
        ),
        (
            "demo --seed -1",
            "--seed must be a whole number of at least 0 and up to 4294967295, got '-1'",
        ),
        ("demo --seed 4294967296", "up to 4294967295, got '4294967296'"),
        ("predict r s --out ''", "there is an empty word after '--out': is a variable not set?"),
        (
            "predict r s --out o --formats '[npz, png]'",
            "must be one of npz, png, exr, video, mcap, mcap-mm or foxglove, got",
        ),
        (
            "demo --seed 1.5",
            "--seed must be a whole number of at least 0 and up to 4294967295, got '1.5'",
        ),
        (
            "predict r s --out o --distance 1.5 2 3 4",
            "--distance must be 4 values (a whole number, a number, a number, a number), "
            "got '1.5 2 3 4'",
        ),
        ("predict r s --out a --out=b", "--out is given twice; leave one out"),
        (
            "predict r s --out o --camera-height 1 --camera_height 2",
            "--camera_height is given twice",
        ),
        (
            "train a --out r --fov 60 --data.fov 60",
            "--data.fov (--fov or --data.fov) is given twice",
        ),
        ("pretrain --out r --seed 1 --seed 2", "--seed is given twice"),
        ("predict r s --out o --speed inf", "--speed must be a finite number above 0, got 'inf'"),
        ("predict r s --out o --speed 3 --gps g", "give only one of --speed and --gps"),
        ("predict r s --out o --distance 1 2 3", "--distance needs 4 values"),
        (
            "predict r s --out o --formats tiff",
            "--formats must be one of npz, png, exr, video, mcap, mcap-mm or foxglove, got",
        ),
        (
            "export mesh r s --out o --every 0",
            "--every must be a whole number of at least 1, got '0'",
        ),
        ("train a --out r --loss.standing 1", "is called --loss.ground_contact now"),
        ("train a --out r --height 64", "unknown option --height; did you mean --model.height?"),
        (
            "train a --out r --method jint",
            "--method must be one of joint, frozen, photometric, images or features, got 'jint'",
        ),
        ("evaluate odometry a", "give --data KIND:ROOT or --truth FILE"),
        ("evaluate odometry a --data d --truth t", "give only one of --data and --truth"),
        (
            "evaluate depth r --data d --max_depth no",
            "--max_depth must be a number above 0, got 'no'",
        ),
        ("landscape r s --out o --frame x", "--frame must be a whole number, got 'x'"),
        ("--print_completion fish", "--print_completion must be one of bash or zsh, got 'fish'"),
        (
            "view r --port 99999",
            "--port must be a whole number above 0 and up to 65535, got '99999'",
        ),
    ],
)
def test_what_makes_no_command_is_told_in_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith("egodepth: ")
        and message in line
        and ("--help)" in line or "not set?" in line)
    )
    with pytest.raises(UsageError):
        parse(shlex.split(words))


def test_no_option_of_any_command_is_given_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """The last one would silently win; only values of several may follow in parts."""
    for command in COMMANDS:
        for name, field in load_command(command).model_fields.items():
            metavars = [m for m in field.metadata if isinstance(m, Metavar | OptionsOf)]
            if ... in get_args(field.annotation) or isinstance(
                next(iter(metavars), None), Positional | OptionsOf
            ):
                continue
            count = {"distance": 4, "pixel": 2}.get(name, int(field.annotation is not bool))
            typed = [option_of(name, field), *["1"] * count]
            assert main([*command.split(), *typed, *typed]) == 2
            assert f"{typed[0]} is given twice" in capsys.readouterr().err, (command, name)
    found = parse(shlex.split("predict r s --out o --formats npz --formats png"))
    assert isinstance(found, Predict) and found.formats == ("npz", "png")


def test_the_reference_shows_options_that_exist() -> None:
    assert "--no-" not in PAGE.read_text(encoding="utf-8")
    assert "--empty-" not in PAGE.read_text(encoding="utf-8")


def test_the_usage_shows_what_may_be_left_out_and_what_may_be_repeated() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert "`egodepth pretrain`, `builtin`" in " ".join(page[:800].split())
    assert "egodepth view RUN [SOURCE] [OPTIONS]\n" in page and "ARGS" not in page
    assert "egodepth train RECIPE|FOOTAGE... --out FOLDER [OPTIONS]\n" in page
    assert "egodepth evaluate depth RUN|PREDICTIONS --data KIND:ROOT [OPTIONS]\n" in page


def test_a_command_is_checked_in_python_too() -> None:
    with pytest.raises(ValueError, match="170"):
        Predict(run_folder=Path("r"), source="s", out=Path("o"), fov=200)
    assert all(issubclass(load_command(name), Command) for name in COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_commands_and_options(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for name in COMMANDS for word in name.split())
    assert "--camera_height" in script and "--loss.feature_metric" in script
    if shell == "bash":
        (tmp_path / "complete").write_text(script)
        typed = "COMP_WORDS=(egodepth predict --cam); COMP_CWORD=2"
        ask = f'. {tmp_path}/complete; {typed}; _egodepth; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert "--camera_height" in done.stdout.split(), done.stderr


def test_python_dash_m_is_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "egodepth.cli", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("egodepth ")
