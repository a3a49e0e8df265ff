import hashlib
import socket
from urllib.request import Request

import pytest

from stgraph.errors import CheckpointError
from stgraph.tasks.web import Fingerprint, Refused, Unreachable, Web, _Redirects

CONTENT = bytes(range(256)) * 10_000  # more than one piece


@pytest.fixture
def url(hub):
    hub.files = {"a": CONTENT}
    return f"{hub.url}/lab/model/resolve/{hub.commit}/a"


def fingerprint(content=CONTENT):
    return Fingerprint(len(content), "sha256", hashlib.sha256(content).hexdigest())


def cut(handler, content):
    """Break off in the middle."""
    begin = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    rest = content[begin:]
    handler.send_response(206 if begin else 200)
    handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(rest)))
    handler.end_headers()
    handler.wfile.write(rest[: len(rest) // 2])
    handler.close_connection = True


def fail(status):
    return lambda handler, _: handler.answer(status, b"")


def test_a_file_comes_whole(url, tmp_path):
    told = []
    Web().file(url, tmp_path / "a", fingerprint(), on_bytes=told.append)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


def test_what_breaks_off_goes_on_where_it_stopped(hub, url, tmp_path):
    """Without end, as long as each attempt brings something."""
    hub.faults = [cut] * 6
    Web(attempts=2).file(url, tmp_path / "a", fingerprint())
    assert (tmp_path / "a").read_bytes() == CONTENT
    begun = [int(headers.get("Range", "bytes=0-")[6:-1]) for _, headers in hub.asked]
    assert len(begun) == 7
    assert begun == sorted(begun)
    assert begun[1] == len(CONTENT) // 2


def test_a_part_that_an_earlier_process_left_is_gone_on_with(hub, url, tmp_path):
    (tmp_path / "a").write_bytes(CONTENT[:1000])
    Web().file(url, tmp_path / "a", fingerprint())
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [headers["Range"] for _, headers in hub.asked] == ["bytes=1000-"]


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * (len(CONTENT) + 5), b"x" * len(CONTENT)])
def test_a_part_of_something_else_is_fetched_anew(url, tmp_path, left):
    (tmp_path / "a").write_bytes(left)
    Web().file(url, tmp_path / "a", fingerprint())
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_may_send_all_whatever_it_is_asked(hub, url, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    hub.faults = [lambda handler, content: handler.answer(200, content)]
    Web().file(url, tmp_path / "a", fingerprint())
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(hub.asked) == 1


def test_a_range_that_is_not_there_and_one_not_asked_for(hub, url, tmp_path):
    other = lambda handler, content: handler.answer(206, content[5:], **{"Content-Range": "bytes 5-9/10"})  # noqa: E731
    (tmp_path / "a").write_bytes(CONTENT[:1000])
    hub.faults = [other, fail(416)]
    Web().file(url, tmp_path / "a", fingerprint())
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_asked_for_again(hub, url, tmp_path, status):
    hub.faults = [fail(status)] * 3
    Web().file(url, tmp_path / "a", fingerprint())
    assert (tmp_path / "a").read_bytes() == CONTENT
    hub.faults = [fail(status)] * 4
    (tmp_path / "a").unlink()
    with pytest.raises(Unreachable, match=f"HTTP {status}"):
        Web().file(url, tmp_path / "a", fingerprint())


def test_pauses_grow_and_obey_the_server(hub, url, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("stgraph.tasks.web.sleep", pauses.append)
    later = lambda handler, _: handler.answer(429, b"", **{"Retry-After": "7"})  # noqa: E731
    endless = lambda handler, _: handler.answer(503, b"", **{"Retry-After": "86400"})  # noqa: E731
    hub.faults = [fail(500), fail(500), fail(500), later, endless]
    Web(attempts=6).file(url, tmp_path / "a", fingerprint())
    assert pauses == [1, 2, 4, 8, 60]


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_what_is_refused_is_not_asked_for_again(hub, url, tmp_path, status):
    hub.faults = [fail(status)]
    with pytest.raises(Refused) as caught:
        Web().file(url, tmp_path / "a", fingerprint())
    assert caught.value.code == status
    assert len(hub.asked) == 1


def test_other_content_is_refused_and_not_kept(hub, url, tmp_path):
    with pytest.raises(CheckpointError, match="does not have the content that the hub says it has"):
        Web().file(url, tmp_path / "a", fingerprint(b"y" * len(CONTENT)))
    assert not (tmp_path / "a").exists()
    assert len(hub.asked) == 2


def test_content_without_end_fills_no_disk(hub, url, tmp_path):
    with pytest.raises(CheckpointError, match="does not have the content"):
        Web().file(url, tmp_path / "a", fingerprint(CONTENT[:1000]))
    told = []
    with pytest.raises(CheckpointError):
        Web().file(url, tmp_path / "a", fingerprint(CONTENT[:1000]), on_bytes=told.append)
    assert max(told) == 1001


def test_hashes_of_git(tmp_path):
    """``printf hello | git hash-object --stdin``."""
    (tmp_path / "a").write_text("hello")
    known = Fingerprint(5, "git", "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0")
    assert known.fits(tmp_path / "a")
    (tmp_path / "a").write_text("hallo")
    assert not known.fits(tmp_path / "a")
    assert not Fingerprint(4, "git", known.digest).fits(tmp_path / "a")


def test_the_token_goes_to_the_server_that_is_asked_and_to_no_other(hub, url, serve, tmp_path):
    other = serve()
    other.files = hub.files
    there = f"{other.url}/lab/model/resolve/{other.commit}/a"
    hub.faults = [lambda handler, _: handler.answer(302, b"", Location=there)]
    (tmp_path / "a").write_bytes(CONTENT[:10])
    Web(token="secret").file(url, tmp_path / "a", fingerprint())
    assert hub.asked[0][1]["Authorization"] == "Bearer secret"
    assert "Authorization" not in other.asked[0][1]
    assert other.asked[0][1]["Range"] == "bytes=10-"
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_the_token_goes_along_within_a_server(hub, url, tmp_path):
    """As where a model was renamed, and may be read by some only."""
    hub.faults = [lambda handler, _: handler.answer(307, b"", Location=url.removeprefix(hub.url))]
    Web(token="secret").file(url, tmp_path / "a", fingerprint())
    assert [headers.get("Authorization") for _, headers in hub.asked] == ["Bearer secret"] * 2


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("https://hub.example/b", True),
        ("https://hub.example:443/b", True),
        ("https://hub.example:8443/b", False),
        ("https://files.hub.example/b", False),
    ],
)
def test_a_server_is_scheme_host_and_port(there, told):
    request = Request("https://hub.example/a")
    request.add_unredirected_header("Authorization", "Bearer secret")
    sent = _Redirects().redirect_request(request, None, 302, "", {}, there)
    assert ("Authorization" in sent.unredirected_hdrs) is told
    assert "Authorization" not in sent.headers


def test_the_token_is_never_sent_where_others_can_read_it(monkeypatch):
    sent = []

    class Opener:
        def open(self, request, timeout):
            sent.append(request.has_header("Authorization"))
            raise ValueError("enough")

    monkeypatch.setattr("stgraph.tasks.web._opener", Opener)
    for url in ("http://hub.example/a", "https://hub.example/a", "http://localhost:80/a"):
        with pytest.raises(Unreachable, match="enough"):
            Web(token="secret").json(url)
    assert sent == [False, True, True]


def test_files_of_this_machine_are_not_read(hub, url, tmp_path):
    (tmp_path / "secret").write_text("{}")
    with pytest.raises(Unreachable, match="is not an address of the web"):
        Web().json((tmp_path / "secret").as_uri())
    hub.faults = [lambda handler, _: handler.answer(302, b"", Location=(tmp_path / "secret").as_uri())]
    with pytest.raises((Refused, Unreachable)):
        Web().file(url, tmp_path / "a", fingerprint())


def test_nobody_is_sent_from_https_to_where_others_can_listen():
    request = Request("https://hub.example/a")
    sent = _Redirects().redirect_request(request, None, 302, "", {}, "https://files.example/a")
    assert sent.full_url == "https://files.example/a"
    with pytest.raises(Refused):
        _Redirects().redirect_request(request, None, 302, "", {}, "http://files.example/a")


def test_json(hub):
    hub.listing = lambda _: [1, {"a": None}]
    assert Web().json(f"{hub.url}/api/models/lab/model/revision/main?blobs=true") == [1, {"a": None}]


def test_an_answer_that_is_not_json(hub, url):
    with pytest.raises(Unreachable, match="is not that of a hub"):
        Web().json(url)


def test_nobody_there(tmp_path, hub):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/a"
        with pytest.raises(Unreachable, match="refused"):
            Web().json(address)


def test_a_name_that_means_nothing_is_asked_once(monkeypatch, hub):
    asked = []

    def unknown(*args, **_):
        asked.append(args)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with pytest.raises(Unreachable, match="Name or service not known"):
        Web().json("https://nowhere.invalid/a")
    assert len(asked) == 1


def test_a_server_that_says_nothing(hub, url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(Unreachable, match="timed out"):
            Web(attempts=1, timeout=0.05).json(address)
