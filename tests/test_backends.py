"""DepthNet by other runtimes, and writing beside computing."""

import re
import subprocess
import time
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.runtimes import WEB, browser
from PIL import Image
from tests.conftest import write_images
from tests.test_view import CHROMIUM

from egodepth.cli import main
from egodepth.core.errors import EgodepthError
from egodepth.core.prefetch import in_background, prefetch
from egodepth.models.networks import make_depth_net
from egodepth.runs.backends import BACKENDS, export_onnx
from egodepth.runs.run import Run
from egodepth.settings.model import ModelSettings

IMAGES = [np.random.default_rng(i).integers(0, 255, (32, 64, 3), dtype=np.uint8) for i in range(4)]
TOLERANCE = {"torch-bf16": 0.05, "openvino-bf16": 0.05, "openvino-int8": 0.2}


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree(tiny_run: Path, backend: str) -> None:
    if backend.startswith("onnx") or backend.startswith("openvino"):
        pytest.importorskip(backend.partition("-")[0])
        pytest.importorskip("onnx")
    if backend.endswith("int8"):
        pytest.importorskip("nncf")
    expected = Run.load(tiny_run).depth(IMAGES[0])
    got = Run.load(tiny_run).use_backend(backend, IMAGES).depth(IMAGES[0])  # type: ignore[arg-type]
    np.testing.assert_allclose(got, expected, rtol=TOLERANCE.get(backend, 1e-4))


def test_onnx_file(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "out" / "depth.onnx"
    assert main(["export", "onnx", str(tiny_run), "--out", str(path)]) == 0
    assert "image (batch, 3, 32, 64)" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(path))
    image = IMAGES[0].transpose(2, 0, 1)[None].astype(np.float32) / 255
    (inverse,) = session.run(["inverse_depth"], {"image": image})
    np.testing.assert_allclose(1 / inverse[0, 0], Run.load(tiny_run).depth(IMAGES[0]), rtol=1e-4)


MODES = {
    ("Resize", "asymmetric"),
    ("Resize", "nearest"),
    ("Resize", "floor"),
    ("Pad", "reflect"),
    ("Pad", "constant"),
}
"""Those that TensorRT 8.5 and newer have."""
PLAIN = {
    "Add", "Cast", "Clip", "Concat", "Conv", "Div", "Elu", "Identity", "MaxPool", "Mul", "Pad", "Relu",
    "Resize", "Sigmoid", "Sub",
}  # fmt: skip
"""Operators that Core ML, TensorRT, OpenVINO and ONNX Runtime for the web have kernels of."""


@pytest.mark.parametrize(
    ("encoder", "opset", "batch"), [("tf_efficientnet_lite0", 20, None), ("resnet18", 11, 2)]
)
def test_onnx_has_plain_operators_and_fixed_sizes(
    encoder: str, opset: int, batch: int | None, tmp_path: Path
) -> None:
    onnx, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxruntime"))
    settings = ModelSettings(depth_encoder=encoder, pretrained=False, decoder_channels=(8,) * 5)
    depth = make_depth_net(settings).eval()
    path = tmp_path / "depth.onnx"
    made = export_onnx(depth, 64, 96, path, opset=opset, batch=batch, metadata={"unit": "metres"})
    assert made == batch
    model = onnx.load(str(path))
    assert {node.op_type for node in model.graph.node} <= PLAIN
    modes = {
        (n.op_type, a.s.decode())
        for n in model.graph.node
        for a in n.attribute
        if "mode" in a.name and a.s
    }
    assert modes <= MODES
    used = {name for node in model.graph.node for name in node.input}
    assert all(tensor.name in used for tensor in model.graph.initializer)
    assert [entry.version for entry in model.opset_import] == [opset]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"unit": "metres"}
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (model.graph.input[0], model.graph.output[0])
    ]
    assert shapes == [[batch or "batch", 3, 64, 96], [batch or "batch", 1, 64, 96]]
    images = torch.rand(batch or 3, 3, 64, 96)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (inverse,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(inverse, depth(images, scales=1)[0], rtol=1e-3)
    with pytest.raises(EgodepthError, match="opset must be from 11 to 20, got 9"):
        export_onnx(depth, 64, 96, path, opset=9)


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(name)
    text = (Path(__file__).parents[1] / "docs" / "howto" / "onnx.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    settings = ModelSettings(depth_encoder="resnet18", pretrained=False, decoder_channels=(8,) * 5)
    monkeypatch.chdir(tmp_path)
    export_onnx(make_depth_net(settings).eval(), 96, 320, "depth.onnx", batch=None)
    for block in blocks:
        found: dict[str, Any] = {}
        exec(compile(block, "onnx.md", "exec"), found)
        assert found["depth"].shape == (96, 320) and (found["depth"] > 0).all()


@pytest.mark.skipif(CHROMIUM is None or which("npm") is None, reason="needs chromium and npm")
def test_the_page_for_browsers_finds_the_same_depth(tiny_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    run, path = Run.load(tiny_run), tmp_path / "depth.onnx"
    run.export_onnx(path)
    try:
        found = browser(path, (IMAGES[0].transpose(2, 0, 1)[None] / 255).astype(np.float32))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm can't fetch {WEB}: {error}")
    np.testing.assert_allclose(1 / found[0, 0], run.depth(IMAGES[0]), rtol=1e-3)


def test_missing_packages_and_wrong_names_are_named(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (frame,) = write_images(tmp_path / "frames", 1)
    command = ["predict", str(tiny_run), str(frame), "--out", str(tmp_path / "o"), "--backend"]
    assert main([*command, "magic"]) == 2
    assert "must be one of torch, torch-bf16" in capsys.readouterr().err

    def no_module(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("egodepth.runs.backends.import_module", no_module)
    assert main([*command, "openvino"]) == 1
    assert "this needs the package onnx; install it by" in capsys.readouterr().err
    with pytest.raises(EgodepthError, match="needs the package onnx"):
        export_onnx(Run.load(tiny_run)._depth, 32, 64, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_prediction_by_a_backend(tiny_run: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "frames", 6)
    for backend in ("torch", "torch-bf16"):
        out = tmp_path / backend
        assert main(["predict", str(tiny_run), str(tmp_path / "frames"), "--out", str(out),
                     "--backend", backend]) == 0  # fmt: skip
        assert len(list((out / "depth").glob("*.npz"))) == 6
        scale = float((out / "depth_png" / "scale.txt").read_text())
        depth = np.load(out / "depth" / "0000000003.npz")["depth"]
        with Image.open(out / "depth_png" / "0000000003.png") as png:
            np.testing.assert_allclose(np.asarray(png), depth * scale * 256, atol=0.51)


def test_ahead_and_beside_keep_order_and_errors() -> None:
    assert list(prefetch(range(10), 3)) == list(range(10))
    assert list(prefetch([])) == []
    seen: list[int] = []

    def slow(item: int) -> None:
        time.sleep(0.002)
        seen.append(item)

    assert list(in_background(range(20), slow, count=3)) == list(range(20))
    assert seen == list(range(20))

    def broken(item: int) -> None:
        if item == 2:
            raise EgodepthError("disk full")

    with pytest.raises(EgodepthError, match="disk full"):
        list(in_background(range(50), broken, count=2))

    def fails() -> object:
        yield 1
        raise EgodepthError("broken frame")

    with pytest.raises(EgodepthError, match="broken frame"):
        list(prefetch(fails()))  # type: ignore[call-overload]


def test_one_can_stop_taking_from_ahead() -> None:
    taken = []

    def source() -> object:
        for i in range(1000):
            taken.append(i)
            yield i

    iterator = prefetch(source(), 2)  # type: ignore[arg-type]
    assert next(iterator) == 0
    iterator.close()
    assert len(taken) < 6
