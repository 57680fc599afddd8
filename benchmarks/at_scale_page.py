"""Write the tables of docs/at_scale.md from the constants in docs/results/shards.json.

    .venv/bin/python -m benchmarks.at_scale_page

The constants are measured by `python -m benchmarks.shards --parts constants --out docs/results/shards.json`.
Each table is between two comments, of which the first names its function here.
"""

import json
import re

from benchmarks.results_page import ROOT, Rows, markdown

PAGE = ROOT / "docs" / "at_scale.md"
RESULTS = ROOT / "docs" / "results" / "shards.json"
FRAMES = 10_000_000
CHUNK, STORE, LINK = 16e6, 20e6, 10e9 / 8
"""Bytes of a chunk, and bytes per second of a slow store and of 10 Gbit/s."""
BATCH, STEP = 12, 0.1
"""Snippets and seconds of the step that the limits are for."""
FETCHERS, LATENCY = 8, 0.1
"""Chunks fetched at a time, and seconds before one arrives."""
LANES = 64

Constants = dict[str, float]


def arithmetic(known: Constants) -> Rows:
    """What ten million frames take."""
    size = known["bytes per frame, cache"]
    ms, surveyed = (
        known["sharding, ms per frame, cache"],
        known["sharding with --data.stride auto, ms per frame"],
    )
    description = known["description, bytes per frame"]
    listing, ordering = (
        known["listing a million snippets, s"],
        known["ordering a million snippets, s"],
    )
    millions, terabytes = FRAMES / 1e6, FRAMES * size / 1e12
    hours = [FRAMES * each / 1000 / 3600 for each in (ms, surveyed)]
    return [
        ["", "from", "ten million frames"],
        [
            "shards, `--frames cache`",
            f"3 bytes per pixel, plus 2 strides of frames per chunk: {size / 1000:.0f} kB per frame",
            f"{terabytes:.2f} TB in {FRAMES * size / CHUNK:,.0f} chunks",
        ],
        [
            "sharding",
            f"decoding, resizing and writing a frame: {ms:.0f} ms of a core; with `--data.stride auto` "
            f"{surveyed:.0f} ms",
            f"{hours[0]:.0f} core-hours; {hours[1]:.0f}",
        ],
        [
            "description (`clips.zip`)",
            f"{description:.0f} bytes per frame, without poses",
            f"{FRAMES * description / 1e6:.0f} MB, read once by each process",
        ],
        [
            "starting a process",
            f"listing {listing:.1f} s, ordering {ordering:.1f} s per million snippets",
            f"{millions * listing:.0f} s, and {millions * ordering:.0f} s per epoch in the background",
        ],
        [
            "an epoch",
            f"each chunk is read once: one frame of {size / 1000:.0f} kB per snippet",
            f"{terabytes:.2f} TB over the network",
        ],
    ]


def limits(known: Constants) -> Rows:
    """At which rates what becomes the limit."""
    size = known["bytes per frame, cache"]
    rate = size * BATCH / STEP
    reading = known["gathering a batch of 4, ms"] / 4
    decoding = known["decoding a JPEG frame, ms"]
    share = known["bytes per frame, jpeg"] / size
    hidden = FETCHERS * CHUNK / LATENCY
    return [
        ["limit", "reached at"],
        [
            "network",
            f"a process with {BATCH} snippets in a step of {STEP:g} s reads {rate / 1e6:.0f} MB/s: a store "
            f"that gives {STORE / 1e6:.0f} MB/s feeds {int(STORE / rate)}, 10 Gbit/s feed {int(LINK / rate)}",
        ],
        [
            "latency",
            f"{FETCHERS} chunks of {CHUNK / 1e6:.0f} MB are fetched at a time: at {1000 * LATENCY:.0f} ms they "
            f"hide below {hidden / 1e9:.1f} GB/s per process",
        ],
        [
            "reading",
            f"{reading:.1f} ms of a core per snippet, in the background beside a GPU: {1000 / reading:,.0f} "
            "snippets per second and process",
        ],
        [
            "JPEG",
            f"{decoding:.1f} ms per frame, three per snippet: {1000 / 3 / decoding:.0f} snippets per second "
            f"and process, for {100 * share:.0f} % of the bytes in footage of noise, and less in others",
        ],
        [
            "local cache",
            f"{LANES} lanes of at least one chunk and its successor: {2 * LANES * CHUNK / 1e9:.0f} GB; "
            "`--data.shard_cache` of less shuffles fewer lanes",
        ],
    ]


def render(text: str) -> str:
    """The page with new tables."""
    known = json.loads(RESULTS.read_text())["results"]["constants"]

    def table(found: re.Match[str]) -> str:
        rows = {"arithmetic": arithmetic, "limits": limits}[found[1]](known)
        return f"<!-- {found[1]} -->\n{markdown(rows)}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
