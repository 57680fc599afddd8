"""Whom the pages answer, and what they take: raw requests through real sockets."""

import logging
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import viser
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from egodepth.view import page
from egodepth.view.page import Server
from egodepth.view.scene import Scene

FOREIGN = [
    ["Host: evil.example"],
    ["Host: evil.example:{port}", "Origin: http://evil.example:{port}"],
    ["Host: 127.0.0.1:{port}", "Origin: http://evil.example"],
    ["Host: 127.0.0.1:{port}", "Origin: http://127.0.0.1:1"],
    ["Host: 127.0.0.1:{port}", "Origin: http://127.0.0.1:{port}.evil.example"],
    ["Host: 127.0.0.1:{port}", "Origin: null"],
    ["Host: 127.0.0.1.evil.example:{port}"],
    ["Host: evil.example@127.0.0.1:{port}"],
    ["Host: ["],
    ["Host: "],
]
OWN = [
    ["Host: 127.0.0.1:{port}"],
    ["Host: LOCALHOST:{port}"],
    ["Host: [::1]:{port}"],
    ["Host: localhost:9000", "Origin: http://localhost:9000"],  # through a tunnel
]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    shown = Scene(0)
    yield shown
    shown.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    def slow(request: Request) -> Response:
        time.sleep(0.02)
        return PlainTextResponse("x" * 1_000_000)

    served = Server([
        Route("/", lambda _: PlainTextResponse("here")), Route("/slow", slow),
        Route("/change", lambda _: PlainTextResponse("done"), methods=["POST"]),
    ])  # fmt: skip
    served.start()
    yield served
    served.stop()


def port_of(served: Server) -> int:
    return int(served.address.rstrip("/").rpartition(":")[2])


def ask(port: int, first: str, headers: list[str]) -> bytes:
    """Send a request and return the whole answer."""
    lines = [first, *(line.format(port=port) for line in headers), "Connection: close", "", ""]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as browser:
        browser.sendall("\r\n".join(lines).encode("latin-1"))
        answer = b""
        while chunk := browser.recv(1 << 16):
            answer += chunk
        return answer


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize("headers", FOREIGN, ids=" ".join)
def test_a_foreign_page_gets_nothing(server: Server, scene: Scene, headers: list[str]) -> None:
    for port in (port_of(server), scene.port):
        assert status(ask(port, "GET / HTTP/1.1", headers)) == 403
    assert status(ask(port_of(server), "POST /change HTTP/1.1", headers)) == 403


@pytest.mark.parametrize("headers", OWN, ids=" ".join)
def test_the_page_itself_is_answered(server: Server, scene: Scene, headers: list[str]) -> None:
    for port in (port_of(server), scene.port):
        assert status(ask(port, "GET / HTTP/1.1", headers)) == 200


def test_what_a_browser_says_of_the_sender(server: Server) -> None:
    """A link elsewhere may open the page; no image, script or form may come from elsewhere."""
    port, host = port_of(server), "Host: 127.0.0.1:{port}"
    link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: document"]
    assert status(ask(port, "GET / HTTP/1.1", [host, *link])) == 200
    assert status(ask(port, "POST /change HTTP/1.1", [host, *link])) == 403
    for sender, dest in (
        ("cross-site", "image"),
        ("same-site", "script"),
        ("cross-site", "iframe"),
    ):
        headers = [host, f"Sec-Fetch-Site: {sender}", f"Sec-Fetch-Dest: {dest}"]
        assert status(ask(port, "GET / HTTP/1.1", headers)) == 403
    answer = ask(port, "GET / HTTP/1.1", [host, "Sec-Fetch-Site: same-origin"]).lower()
    assert status(answer) == 200
    assert b"x-frame-options: deny" in answer and b"cross-origin-resource-policy" in answer
    assert status(ask(port, "GET /change HTTP/1.1", [host])) == 405


def test_a_foreign_page_cannot_read_the_scene(scene: Scene) -> None:
    address, own = f"ws://127.0.0.1:{scene.port}/", f"http://127.0.0.1:{scene.port}"
    protocols = [Subprotocol(f"viser-v{viser.__version__}")]
    with connect(address, subprotocols=protocols, origin=Origin(own)) as socket_:
        assert socket_.recv(timeout=10)
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(address, subprotocols=protocols, origin=Origin(origin)).close()
    rebound = socket.create_connection(("127.0.0.1", scene.port))
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://evil.example:{scene.port}/", sock=rebound, subprotocols=protocols).close()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("GET http://[ HTTP/1.1", 404), ("GET //[ HTTP/1.1", 404), ("GET /%ff%00 HTTP/1.1", 404),
        ("GET http://evil.example/ HTTP/1.1", 404), ("GET /" + "a" * 100_000 + " HTTP/1.1", 404),
        ("\x00\xff", 400), ("GET", 400), ("POST / HTTP/1.1", 405),
    ],
)  # fmt: skip
def test_a_broken_request_is_answered(
    server: Server, first: str, expected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert status(ask(port_of(server), first, ["Host: 127.0.0.1:{port}"])) == expected
    assert status(ask(port_of(server), "GET / HTTP/1.1", ["Host: 127.0.0.1:{port}"])) == 200
    assert capfd.readouterr().err == ""


def test_connections_that_are_reset_or_broken_say_nothing(
    server: Server, scene: Scene, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for port in (port_of(server), scene.port):
        for request in (
            b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HT",
            b"\xff\r\n\r\n",
        ):
            browser = socket.create_connection(("127.0.0.1", port), timeout=10)
            browser.sendall(request)
            time.sleep(0.05)
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            browser.close()
    time.sleep(0.3)
    assert capfd.readouterr().err == ""
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_200_requests_at_once(server: Server, scene: Scene) -> None:
    for port, path in ((port_of(server), "/slow"), (scene.port, "/")):
        found: list[int] = []

        def visit(port: int = port, path: str = path, found: list[int] = found) -> None:
            found.append(status(ask(port, f"GET {path} HTTP/1.1", ["Host: 127.0.0.1:{port}"])))

        visitors = [threading.Thread(target=visit) for _ in range(200)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        assert Counter(found) == {200: 200}


def test_connections_without_a_whole_request_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first and a later one; not one that waits for a slow answer."""
    monkeypatch.setattr(page, "SECONDS_TO_REQUEST", 0.4)

    def slower(request: Request) -> Response:
        time.sleep(1)
        return PlainTextResponse("at last")

    served = Server([Route("/", lambda _: PlainTextResponse("x")), Route("/slower", slower)])
    served.start()
    port = port_of(served)
    whole = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    for sent in (b"", whole[:-9], whole + whole[:-9]):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as browser:
            browser.sendall(sent)
            while browser.recv(1 << 16):
                pass
    assert b"at last" in ask(port, "GET /slower HTTP/1.1", ["Host: localhost:{port}"])
    served.stop()
