"""A web server that answers as a script says, byte for byte: what no well-meant server would send."""

from __future__ import annotations

import gzip
import random
import socket
import threading
from contextlib import suppress


class RawServer:
    """Answers the next connections with `replies`, one each, and all further ones with the last."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stops to listen."""
        # `close` alone does not wake what waits in `accept`.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                connection.recv(65536)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                connection.sendall(reply)


def _reply(body: bytes, *headers: str, status: str = "200 OK", length: object = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close"]
    lines += [] if length == "none" else [f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def whole(body: bytes) -> list[bytes]:
    """Returns the replies of a server as it should be."""
    return [_reply(body, 'ETag: "1"')]


def damaged(body: bytes, url: str, rng: random.Random) -> list[bytes]:
    """Returns the replies of a server that lies, breaks off, or sends to other places."""
    half, rest = body[: len(body) // 2], body[len(body) // 2 :]
    part = f"Content-Range: bytes {len(half)}-{len(body) - 1}/{len(body)}"
    broken = _reply(half, 'ETag: "1"', length=len(body))
    number = rng.choice(
        ("0", "-1", "1e9", "99999999999999999999", str(len(body) - 1), str(len(body) + 1), "x")
    )
    place = rng.choice(
        ("file:///etc/passwd", "ftp://x/y", "//", "http://[", f"{url}/again", "data:,x", "http://")
    )
    ways = (
        [_reply(body, length=number)],
        [_reply(body, f"Content-Length: {number}")],
        [_reply(b"", f"Location: {place}", status=rng.choice(("301 Moved", "302 Found", "308 Moved")))],
        [_reply(gzip.compress(bytes(10**6)) if rng.random() < 0.5 else body, "Content-Encoding: gzip")],
        [_reply(body, *(f"X-{number}: y" for number in range(rng.choice((99, 5000)))))],
        [_reply(body, f"X-Long: {'y' * 100_000}")],
        # Another version answers for the rest of the first.
        [broken, _reply(bytes(len(rest)), 'ETag: "2"', part, status="206 Partial Content")],
        [broken, _reply(rest, 'ETag: "1"', part, status="206 Partial Content")],
        [broken, _reply(rest, 'ETag: "1"', part.replace("bytes ", "bytes 1"), status="206 Partial Content")],
        [broken, _reply(rest, 'ETag: "1"', f"Content-Range: {number}", status="206 Partial Content")],
        [broken, _reply(b"", f"Content-Range: bytes */{len(half)}", status="416 Too far")],
        [broken, _reply(body, 'ETag: "2"')],
        [_reply(b"", status=f"{rng.randrange(1000)} Odd")],
        [_reply(body, f"x-goog-hash: crc32c={rng.choice(('AAAAAA==', '====', ''))},md5=x")],
        [_reply(b"<html>log in</html>", "Content-Type: text/html")],
        [rng.randbytes(200)],
        [b""],
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + rng.choice((b"zz\r\n", b"fffffffff\r\nab"))
        ],
        [_reply(body, length="none")],
        [_reply(half, length="none")],
        [_reply(b"", f"Retry-After: {number}", status="503 Busy"), _reply(body)],
    )
    return list(rng.choice(ways))
