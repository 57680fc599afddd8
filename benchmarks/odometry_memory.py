"""Memory of odometry over many frames, and the time per frame.

    .venv/bin/python -m benchmarks.odometry_memory --frames 3000 --out runs/odometry_memory.json

drives along a rendered street, there and back again and again, and prints memory, the map's share of it and
what of the map is on disk, while it goes. --max_mb bounds the map's memory; small values show early what long
drives do later. Latency is from a frame's arrival to its pose, with loops looked for in a second thread.
"""

import argparse
import resource
import time
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from egodepth.core.files import write_json
from egodepth.core.provenance import provenance
from egodepth.data.sequence import Frame
from egodepth.data.synthetic.street import read_street
from egodepth.inference.odometry.tracker import Odometry, OdometrySettings
from egodepth.runs.run import Run

STREET = range(60, 160)
"""Frames of the street."""
STEPS = 20
"""Rows of the table."""


def memory() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="builtin")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--max_mb", type=float, default=500)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    street = read_street(5)
    assert street.camera is not None
    images = [frame.image for frame in street.frames.at(STREET)]
    settings = OdometrySettings(map_bytes=int(options.max_mb * 1e6))
    odometry = Odometry(Run.load(options.run), street.camera, settings)
    assert odometry.map is not None
    rows, latencies = [], []
    there_and_back = chain(images, images[-2:0:-1])
    started = time.process_time()
    for number, image in enumerate(islice(cycle(there_and_back), options.frames), 1):
        arrived = time.perf_counter()
        odometry.track(Frame(number, number / 10, image))
        latencies.append(time.perf_counter() - arrived)
        if number % max(1, options.frames // STEPS) == 0:
            places = odometry.map.places
            rows.append({
                "frames": number, "key_frames": odometry.key_frames, "memory_mb": memory(),
                "map_mb": places.bytes / 1e6, "disk_mb": places.bytes_on_disk / 1e6,
            })  # fmt: skip
    cpu = time.process_time() - started
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.0f}" for value in row.values()))
    p50, p95 = (1e3 * float(np.quantile(latencies, share)) for share in (0.5, 0.95))
    Console(width=110).print(table)
    print(
        f"latency {p50:.0f} ms (p50), {p95:.0f} ms (p95); {options.frames / cpu:.1f} frames/s per core"
    )
    facts = {"latency_ms": {"p50": p50, "p95": p95}, "frames_per_core_second": options.frames / cpu}
    write_json(options.out, {"results": rows, **facts, **provenance()})


if __name__ == "__main__":
    main()
