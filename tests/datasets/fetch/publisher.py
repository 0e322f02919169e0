"""A publisher on this machine, the small data set it offers, and what a fetch leaves behind."""

import hashlib
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flatness.datasets.sources import Source

CONTENT = {"a.bin": b"alpha" * 5000, "b.bin": b"beta" * 7000}
CUT = "cut off, as the length that was announced shows"
SHORT = "cut off, and the length was not announced"
STALL = "half of it, then nothing"


class Publisher:
    """A web server on this machine; `answers[path]` are given in turn, the last one for ever."""

    def __init__(self):
        self.answers: dict[str, deque] = {}
        self.requests: list[str] = []
        self.content: dict[str, bytes] = {}
        self.closing = threading.Event()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                publisher.requests.append(self.path)
                queue = publisher.answers.get(self.path, deque([404]))
                publisher.answer(self, queue.popleft() if len(queue) > 1 else queue[0])

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, name: str, content: bytes, *answers):
        self.content["/" + name] = content
        self.answers["/" + name] = deque(answers or [200])

    def answer(self, handler, answer):
        content = self.content.get(handler.path, b"")
        if isinstance(answer, bytes):
            answer, content = 200, answer
        handler.send_response(answer if isinstance(answer, int) else 200)
        if answer != SHORT:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        whole = isinstance(answer, int)
        handler.wfile.write(content if whole else content[: len(content) // 2])
        if answer == STALL:
            handler.wfile.flush()
            self.closing.wait()


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def toy(address: str, content: dict[str, bytes] = CONTENT) -> Source:
    sums = {name: sha256(data) for name, data in content.items()}
    return Source(folder="toy", files=sums, address=address, licence="none")


def files_under(folder: Path) -> dict[str, bytes]:
    """Everything there but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


IN_LAYOUT = {f"toy/{name}": data for name, data in CONTENT.items()}


def lay_out(mirror: Path, content: dict[str, bytes], folder: str = "toy") -> Path:
    (mirror / folder).mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (mirror / folder / name).write_bytes(data)
    return mirror
