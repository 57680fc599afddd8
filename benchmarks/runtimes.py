"""The exported DepthNet in runtimes of other people: how far their inverse depth is from PyTorch's.

    .venv/bin/python -m benchmarks.runtimes --out docs/results/runtimes.json [--run RUN] [--source SOURCE]

ONNX Runtime and OpenVINO run here. ONNX Runtime for the web runs in Chromium, in the page
docs/howto/browser.html: npm fetches it into a temporary folder. With coremltools on the path (9.0 wants NumPy
below 2.4) the network is converted for Core ML, which Linux cannot run. What is missing is left out, and said.
"""

import argparse
import http.server
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sources import read_source
from egodepth.runs.run import Run

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "browser.html"
WEB = "onnxruntime-web@1.30.0"


def onnxruntime(model: Path, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def openvino(model: Path, image: np.ndarray) -> np.ndarray:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(model), "CPU", settings)(image)[0]


class _Files(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript"
    }

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder to this machine."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Files, directory=folder)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def browser(model: Path, image: np.ndarray, shot: Path | None = None) -> np.ndarray:
    """Inverse depth that the page docs/howto/browser.html finds for an image of the network's size."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        shutil.copy(PAGE, folder)
        subprocess.run(["npm", "install", "--silent", WEB], cwd=folder, check=True, timeout=120)
        picture = folder / "picture.png"
        Image.fromarray((image[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(picture)
        with served(folder) as address:
            program = shutil.which("chromium") or shutil.which("chromium-browser")
            opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = opened.new_page()
            runtime = f"{address}/node_modules/onnxruntime-web/dist/ort.all.min.mjs"
            page.goto(f"{address}/{PAGE.name}?runtime={runtime}")
            page.set_input_files("#network", str(model))
            page.wait_for_function("state.textContent.includes('Choose a picture')", timeout=60_000)
            page.set_input_files("#picture", str(picture))
            page.wait_for_function("window.inverse", timeout=120_000)
            if shot is not None:
                page.screenshot(path=shot, full_page=True)
            found = page.evaluate("Array.from(window.inverse)")
            opened.close()
    return np.array(found, np.float32).reshape(1, 1, *image.shape[2:])


def core_ml(run: Run) -> str:
    """Operations of the network once it is converted for Core ML."""
    import coremltools

    class Finest(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depth = run._depth

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.depth(image, scales=1)[0]

    image = torch.zeros(1, 3, run.settings.height, run.settings.width)
    with torch.no_grad():
        traced = torch.jit.trace(Finest().eval(), image)
    model = coremltools.convert(
        traced,
        inputs=[coremltools.ImageType("image", image.shape, scale=1 / 255)],
        outputs=[coremltools.TensorType("inverse_depth")],
        minimum_deployment_target=coremltools.target.iOS16,
    )
    functions = model._mil_program.functions.values()
    kinds = Counter(o.op_type for f in functions for o in f.operations if o.op_type != "const")
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def measure(run: Run, image: np.ndarray) -> list[list[str]]:
    """Rows of the table: runtime, version, what came out."""
    with torch.no_grad():
        wanted = run._depth(torch.from_numpy(image), scales=1)[0].numpy()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "depth.onnx"
        run.export_onnx(model)
        for name, compute in (
            ("ONNX Runtime", onnxruntime), ("OpenVINO", openvino), (f"{WEB} in Chromium", browser)
        ):  # fmt: skip
            try:
                gap = np.abs(compute(model, image) / wanted - 1).max()
            except (ImportError, OSError, subprocess.CalledProcessError) as error:
                print(f"{name} is left out: {error}")
                continue
            rows.append([name, f"largest relative difference {gap:.1e}"])
    try:
        rows.append(["Core ML, converted by coremltools, not run", core_ml(run)])
    except ImportError as error:
        print(f"Core ML is left out: {error}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="builtin")
    parser.add_argument(
        "--source", default="synthetic:100", help="footage whose first frame is looked at"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    run = Run.load(options.run, "cpu")
    (sequence,) = read_source(options.source)
    frame = next(iter(sequence.frames.at([0])))
    size = (run.settings.width, run.settings.height)
    pixels = np.asarray(Image.fromarray(frame.image).resize(size))
    image = (pixels.astype(np.float32) / 255).transpose(2, 0, 1)[None].copy()
    rows = measure(run, image)
    for row in rows:
        print(*row, sep="  ")
    if options.out:
        facts = {
            "columns": ["runtime", "result"],
            "rows": rows,
            "run": options.run,
            "source": options.source,
        }
        write_json(options.out, facts | provenance())


if __name__ == "__main__":
    main()
