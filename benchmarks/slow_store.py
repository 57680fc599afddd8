"""An object store over a slow line: a folder over HTTP, of which some requests fail.

Run: .venv/bin/python -m benchmarks.slow_store FOLDER, which prints its address and serves until it is killed.
"""

import http.server
import random
import sys
import threading
import time
from pathlib import Path

RATE, LATENCY, LOST = 20e6, 0.1, 0.01
"""Bytes per second of all requests together, seconds before each answer, share of the requests that fail."""
PIECE = 1 << 16

_line = threading.Lock()
_chance = random.Random(0)


class Slow(http.server.SimpleHTTPRequestHandler):
    """Answers late, slowly, and sometimes not at all."""

    folder = ""

    def do_GET(self) -> None:
        """Send a file, with an error or half of it at times."""
        time.sleep(LATENCY)
        path = Path(self.folder) / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, fate = path.read_bytes(), _chance.random()
        if fate < LOST / 2:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        end = len(content) // 2 if fate < LOST else len(content)
        for first in range(0, end, PIECE):
            piece = content[first : min(first + PIECE, end)]
            with _line:  # one line for all
                time.sleep(len(piece) / RATE)
            self.wfile.write(piece)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    Slow.folder = sys.argv[1]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
