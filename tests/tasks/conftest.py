"""A hub on this machine, for models by their id."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest


class Hub:
    """Repositories, what they were asked for, and what goes wrong with an answer.

    Attributes
    ----------
    files
        Content by name, of the one model ``lab/model``.
    large
        Names of files that the hub stores by SHA-256 rather than as blobs of git.
    commit
        Of its branch ``main``.
    asked
        ``(path, headers)`` of each request.
    faults
        Called with handler and content instead of answering for a file, the first first.
    listing
        What is changed in the answer about the model.
    """

    def __init__(self, url):
        self.url = url
        self.files, self.large, self.commit = {}, set(), "a" * 40
        self.asked, self.faults, self.listing = [], [], lambda answer: answer

    def publish(self, folder):
        self.files = {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        self.large = {name for name in self.files if name.endswith((".safetensors", ".pth", ".bin"))}

    def described(self):
        siblings = []
        for name, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": blob}
            if name in self.large:
                digest = hashlib.sha256(content).hexdigest()
                entry |= {"blobId": "0" * 40, "lfs": {"sha256": digest, "size": len(content), "pointerSize": 130}}
            siblings.append(entry)
        return self.listing({"id": "lab/model", "sha": self.commit, "siblings": siblings})

    def paths(self):
        return [path for path, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub = self.server.hub
        at = urlsplit(self.path)
        path = unquote(at.path)
        hub.asked.append((path, dict(self.headers)))
        revisions = ("main", "v1", "refs/pr/1", hub.commit)
        start = f"/lab/model/resolve/{hub.commit}/"
        if path.startswith("/api/models/lab/model/revision/"):
            known = path.removeprefix("/api/models/lab/model/revision/") in revisions
            assert parse_qs(at.query) == {"blobs": ["true"]}
            return self.answer(200 if known else 404, json.dumps(hub.described()).encode())
        if path.startswith(start) and path.removeprefix(start) in hub.files:
            content = hub.files[path.removeprefix(start)]
            if hub.faults:
                return hub.faults.pop(0)(self, content)
            return self.answer_part(content)
        # The real one does not tell what is private from what is not there.
        return self.answer(401, b"")

    def answer_part(self, content):
        asked = self.headers.get("Range")
        if asked is None:
            return self.answer(200, content)
        begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        if begin >= len(content):
            return self.answer(416, b"")
        stated = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        return self.answer(206, content[begin:], **stated)

    def answer(self, status, content, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts servers of `Hub`, and stops them."""
    servers = []

    def start():
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server.hub

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def hub(serve, tmp_path, monkeypatch):
    """A hub that is the hub, with an empty cache and no time between attempts."""
    started = serve()
    monkeypatch.setenv("HF_ENDPOINT", started.url)
    monkeypatch.setenv("STGRAPH_CACHE", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("stgraph.tasks.web.sleep", lambda _: None)
    return started
