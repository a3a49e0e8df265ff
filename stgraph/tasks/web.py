"""Files over HTTP: checked, resumed and asked for again."""

import hashlib
import http.client
import json
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Literal, TypeVar
from urllib.request import Request

from stgraph._version import __version__
from stgraph.errors import CheckpointError

_CHUNK = 1 << 20
_LONGEST_TEXT = 1 << 24
_LONGEST_PAUSE = 60.0
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_NO_SUCH_RANGE = 416
_TOKEN = "Authorization"

Answer = TypeVar("Answer")


class Unreachable(Exception):  # noqa: N818 - it says what the server is
    """Nobody answered, however often they were asked."""


class Refused(Exception):  # noqa: N818 - likewise
    """The server answered that it does not give this.

    Attributes
    ----------
    code
        HTTP's number for why.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP {code}")
        self.code = code


@dataclass(frozen=True)
class Fingerprint:
    """What the content of a file must be.

    Attributes
    ----------
    size
        Bytes.
    kind
        ``"sha256"`` of the content, or ``"git"``: SHA-1 as git numbers its blobs.
    digest
        Hexadecimal.
    """

    size: int
    kind: Literal["sha256", "git"]
    digest: str

    def fits(self, path: Path) -> bool:
        """Whether a file has this size and hash."""
        if path.stat().st_size != self.size:
            return False

        def start() -> Any:
            if self.kind == "sha256":
                return hashlib.sha256()
            return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

        with path.open("rb") as handle:
            return hashlib.file_digest(handle, start).hexdigest() == self.digest


@dataclass(frozen=True)
class Web:
    """Asks a server for JSON and files, and again where asking again may help.

    Parameters
    ----------
    token
        Sent to the server that is asked, and to no other that it points to; never over plain http, which others can
        read, but to this machine. None for none.
    attempts
        How often to ask in vain.
    timeout
        Seconds to wait for an answer, and for each piece of it.
    pause
        Seconds before the second attempt; twice as long before each further one.

    Examples
    --------
    >>> from stgraph.tasks.web import Web
    >>> Web().json("file:///etc/hostname")
    Traceback (most recent call last):
    stgraph.tasks.web.Unreachable: 'file:///etc/hostname' is not an address of the web
    """

    token: str | None = None
    attempts: int = 4
    timeout: float = 20.0
    pause: float = 1.0

    def json(self, url: str) -> Any:
        """What the JSON at an address says.

        Raises
        ------
        Unreachable
            If nobody answers, or not in JSON.
        Refused
            If the server does not give it.
        """
        text = self._again(lambda: _read(self._open(url), _LONGEST_TEXT))
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Unreachable("its answer is not that of a hub") from error

    def file(
        self, url: str, path: Path, expected: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        """Fetch a file; go on where ``path`` ends, if an earlier call left a part of it there.

        Parameters
        ----------
        url
            Its address.
        path
            Where to. When this returns, its content is as expected.
        expected
            Size and hash.
        on_bytes
            Told now and then how many bytes there are.

        Raises
        ------
        Unreachable
            If the server stops to answer; what came is kept.
        Refused
            If the server does not give it.
        CheckpointError
            If the content is not what it should be, twice; nothing of it is kept.
        """
        for _ in range(2):
            path.touch()
            self._again(lambda: self._append(url, path, expected.size, on_bytes), lambda: path.stat().st_size)
            if expected.fits(path):
                return
            path.unlink()  # what an earlier call left may have been damaged
        raise CheckpointError(f"'{url}' does not have the content that the hub says it has; nothing of it was kept.")

    def _append(self, url: str, path: Path, size: int, on_bytes: Callable[[int], None]) -> None:
        there = path.stat().st_size
        if there == size:
            return
        if there > size:
            path.write_bytes(b"")
            there = 0
        try:
            answer = self._open(url, {"Range": f"bytes={there}-"} if there else {})
        except Refused as error:
            if error.code != _NO_SUCH_RANGE or not there:
                raise
            path.write_bytes(b"")
            raise _BrokenError("it has no such range") from error
        with answer, path.open("r+b") as out:
            there = _sent_from(answer, there)
            out.truncate(there)
            out.seek(there)
            # One byte more than wanted tells a file that is too long, and fills no disk.
            while there <= size and (chunk := _read(answer, min(_CHUNK, size + 1 - there))):
                out.write(chunk)
                there += len(chunk)
                on_bytes(there)
        if there < size:
            raise _BrokenError(f"it stopped {size - there:,} bytes too early")

    def _again(self, action: Callable[[], Answer], mark: Callable[[], int] = lambda: 0) -> Answer:
        """What the action gives, at last; attempts after which the mark is higher do not count."""
        failures, highest = 0, mark()
        while True:
            try:
                return action()
            except _BrokenError as error:
                failures = 1 if mark() > highest else failures + 1
                highest = max(highest, mark())
                if error.for_good or failures >= self.attempts:
                    raise Unreachable(str(error)) from error
                sleep(min(max(self.pause * 2 ** (failures - 1), error.pause), _LONGEST_PAUSE))

    def _open(self, url: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise Unreachable(f"'{url}' is not an address of the web")
        # A compressed answer would have another size and hash.
        request = Request(url, headers={"User-Agent": f"stgraph/{__version__}", "Accept-Encoding": "identity"})
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if self.token and may_be_told(url):
            # "Unredirected": not sent on to where the server points, which for files is another one.
            request.add_unredirected_header(_TOKEN, f"Bearer {self.token}")
        try:
            answer: http.client.HTTPResponse = _opener().open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _TRANSIENT:
                raise Refused(error.code) from error
            after = error.headers.get("Retry-After", "")
            raise _BrokenError(f"HTTP {error.code}", pause=float(after) if after.isdecimal() else 0.0) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _broken(error) from error
        return answer


class _BrokenError(Exception):
    """An attempt failed; ``for_good`` if another would fail too."""

    def __init__(self, reason: str, *, for_good: bool = False, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.for_good = for_good
        self.pause = pause


def _broken(error: Exception) -> _BrokenError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    # A name that means nothing, and a certificate that is not to be trusted, stay so: whoever is offline waits for
    # nothing.
    for_good = isinstance(reason, socket.gaierror | ssl.SSLCertVerificationError | ValueError | str)
    return _BrokenError(" ".join(str(reason).split()) or type(reason).__name__, for_good=for_good)


def _read(answer: http.client.HTTPResponse, size: int) -> bytes:
    try:
        return answer.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise _broken(error) from error


def _sent_from(answer: http.client.HTTPResponse, asked: int) -> int:
    """Which byte of the file the answer begins with: a server is free to send all, whatever it was asked for."""
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0
    start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if start != str(asked):
        raise _BrokenError(f"it sent another range than asked for, from {start!r}")
    return asked


def may_be_told(url: str) -> bool:
    """Whether what is sent there is read by nobody on the way.

    Examples
    --------
    >>> from stgraph.tasks.web import may_be_told
    >>> [may_be_told(url) for url in ("https://hub.example", "http://hub.example", "http://localhost:8000/a")]
    [True, False, True]
    """
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Never from https to something that others can read or change; the token goes along within a server only."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise Refused(code)
        sent = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get(_TOKEN)
        if sent is not None and token is not None and _origin(newurl) == _origin(req.full_url):
            sent.add_unredirected_header(_TOKEN, token)
        return sent


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https only, through the proxy that the environment names."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
