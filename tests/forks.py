"""Python programs in processes of their own, forked from one that has imported egodepth: they start at once."""

import functools
import json
import os
import subprocess
import sys

SERVER = """
import json, os, sys, tempfile, traceback

import egodepth.cli.root, egodepth.data.preparation.structure_from_motion, egodepth.data.synthetic.street
import egodepth.inference.odometry.track, egodepth.inference.predict, egodepth.training.run
import egodepth.report.plots, lightning.pytorch.loggers, timm, torch.utils.tensorboard  # imported when needed

for line in sys.stdin:
    code, arguments, environment = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os.environ.update(environment)
        tempfile.tempdir = None  # found before
        sys.argv = ["-c", *arguments]
        exec(compile(code, "<forked>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
"""


@functools.cache
def _server() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def run_forked(code: str, *arguments: object, **environment: str) -> int:
    """Run a program as ``python -c`` does; return its status, or minus the signal that ended it."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps([code, [str(a) for a in arguments], environment]) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())
