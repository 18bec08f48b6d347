"""Downloads of several processes, and of one that is killed."""

from __future__ import annotations

import runpy
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_bodies = runpy.run_path(str(Path(__file__).with_name("bodies.py")))
BODY, SHA256, WHOLE, PART = (_bodies[name] for name in ("BODY", "SHA256", "WHOLE", "PART"))


def in_another_process(code: str, *arguments: object) -> Callable[[], subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return lambda: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


FETCH = """
    import sys
    from pathlib import Path
    from zoo.fetch.download import DownloadOptions, download
    from zoo.fetch.locations import locate
    from zoo.files.cache import Cache
    url, cache = sys.argv[1:]
    print(download(locate(url), Cache(Path(cache)), options=DownloadOptions(show_progress=False)).sha256)
"""


def test_two_processes_download_once(server: Any, client: Any, tmp_path: Path) -> None:
    second_waits = threading.Event()
    url = server.put("/model.tar.gz", BODY, server.half_until(second_waits))
    start = in_another_process(FETCH, url, tmp_path)
    with start() as first:
        while not server.requests:
            assert first.poll() is None
            time.sleep(0.02)
        with start() as second:
            assert second.stderr is not None
            waiting = second.stderr.readline()
            second_waits.set()
            results = [process.communicate() for process in (first, second)]
    assert "another process is downloading it, waiting" in waiting
    assert results == [(f"{SHA256}\n", ""), (f"{SHA256}\n", "")]
    assert len(server.requests) == 1
    assert client.left() == WHOLE


def test_a_killed_process_leaves_a_part_that_is_continued(server: Any, client: Any, tmp_path: Path) -> None:
    killed = threading.Event()
    url = server.put("/model.tar.gz", BODY, server.half_until(killed))
    with in_another_process(FETCH, url, tmp_path)() as process:
        while not client.part.exists() or client.part.stat().st_size < 30_000:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate()
    killed.set()
    assert client.left() == PART
    assert client.fetch(url).sha256 == SHA256
    assert (server.ranges()[-1] or "").startswith("bytes=")
    assert client.left() == WHOLE
