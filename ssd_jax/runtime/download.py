"""Files from the network: each downloaded once, resumed, and checked.

Beside a file lies its record, FILE.json: address, SHA-256, size, and day. While a download is not
finished, its bytes are in FILE.part.
"""

import contextlib
import datetime
import errno
import hashlib
import ipaddress
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from filelock import FileLock, Timeout
from tqdm import tqdm

from ssd_jax.errors import CheckpointError, ResourceError
from ssd_jax.runtime.files import read_json, write_bytes, write_json
from ssd_jax.runtime.progress import log_line

_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces
_ATTEMPTS = 5  # in a row without a new byte
_FIRST_WAIT = 1.0  # seconds before the second attempt, then twice as long each time
_MAX_REDIRECTS = 10
_PIECE_BYTES = 1 << 20
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # answers after which trying again helps
_HUB_SUM, _HUB_REVISION = "x-linked-etag", "x-repo-commit"  # headers of huggingface.co


class _TransferError(Exception):
    """A connection that failed or an answer that may be another one next time."""


class _RefusedError(Exception):
    """An answer that will be the same next time."""


class _Answer(NamedTuple):
    response: Any  # of requests, streamed
    published: dict[str, str]  # "sha256" and "revision", as far as the hub names them


def fetch(
    address: str, target: Path, sha256: str = "", contents_are_checked: bool = False
) -> dict[str, Any]:
    """The record of `target`, downloaded from `address` unless it is there.

    Args:
        address: https, or http of this machine.
        target: the file; several processes may ask for it at once.
        sha256: of the file, hexadecimal, as many of its first digits as are published.
        contents_are_checked: by the caller. Otherwise a line says where no sum is published.

    A file that is there is compared with its record. One without a record, which somebody copied
    there, gets one. Raises CheckpointError for a file with another sum, ResourceError where it
    cannot be downloaded or written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target):
            if target.exists():
                return _check(target, sha256)
            record = _download(address, target, sha256)
    except OSError as error:
        full = " The next call goes on where this one ended." if _is_full(error) else ""
        raise ResourceError(
            f"cannot write {target} ({error.strerror or error}): free disk space, or set "
            f"XDG_CACHE_HOME to a folder that can be written.{full}"
        ) from error
    if not (sha256 or contents_are_checked or record["has_published_sum"]):
        log_line(f"{target.name}: no sum is published; its SHA-256 {record['sha256']} is recorded")
    return record


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    lock = FileLock(_beside(target, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log_line(f"waiting for another process that downloads {target.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _check(target: Path, sha256: str) -> dict[str, Any]:
    """The record of a file that is there."""
    found, record = file_sha256(target), read_record(target)
    if record is None:
        _check_sum(target, found, sha256, "published")
        return _write_record(target, {"sha256": found})
    if found != record["sha256"]:
        raise CheckpointError(
            f"{target} has changed since {record.get('date', 'its download')}: its SHA-256 is "
            f"{found}, and was {record['sha256']}. Remove the file, then it is downloaded again"
        )
    return record


def _check_sum(target: Path, found: str, expected: str, source: str) -> None:
    if not found.startswith(expected):
        raise CheckpointError(
            f"{target}: its SHA-256 is {found}, and the {source} one {expected}: not the file that "
            "was asked for. Remove it, or find out who answers in place of the server"
        )


def _write_record(target: Path, record: dict[str, Any]) -> dict[str, Any]:
    record |= {"size": target.stat().st_size, "date": datetime.date.today().isoformat()}
    write_json(_beside(target, ".json"), record)
    return record


def read_record(target: Path) -> dict[str, Any] | None:
    """The record of a file that is there, None where there is none."""
    try:
        record = read_json(_beside(target, ".json"))
        return record if target.exists() and isinstance(record["sha256"], str) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(address: str, target: Path, sha256: str) -> dict[str, Any]:
    import requests  # costs a moment, and prediction with a run does not need it

    partial = _beside(target, ".part")
    with requests.Session() as session:
        try:
            published = _transfer(session, address, partial)
        except (_TransferError, _RefusedError) as error:
            raise ResourceError(
                f"cannot download {address} ({error}). Download it elsewhere, and copy it to "
                f"{target}"
            ) from error
    found = file_sha256(partial)
    try:
        _check_sum(target, found, sha256, "published")
        _check_sum(target, found, published.get("sha256", ""), "server's")
    except CheckpointError:
        _forget(partial)
        raise
    partial.replace(target)
    _forget(partial)
    is_published = bool(sha256 or published.pop("sha256", ""))
    record = {"address": address, "sha256": found, "has_published_sum": is_published}
    return _write_record(target, record | published)


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _beside(partial, ".etag").unlink(missing_ok=True)


def _transfer(session, address: str, partial: Path) -> dict[str, str]:
    """Complete `partial`, over several connections where one breaks. Returns what is published."""
    failures, published = 0, {}
    while True:
        before = _size(partial)
        try:
            answer = _request(session, address, partial)
            published |= answer.published
            with answer.response as response:
                _receive(response, partial)
            return published
        except _TransferError as error:
            failures = 0 if _size(partial) > before else failures + 1
            if failures >= _ATTEMPTS:
                raise
            log_line(f"{error}; trying again")
            time.sleep(_FIRST_WAIT * 2 ** max(failures - 1, 0))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _request(session, address: str, partial: Path) -> _Answer:
    """The answer, from the first byte that `partial` lacks on where the server can do that."""
    headers = {"Accept-Encoding": "identity"}
    etag = _beside(partial, ".etag")
    if _size(partial) and etag.exists():
        headers |= {"Range": f"bytes={_size(partial)}-", "If-Range": etag.read_text()}
    answer = _follow(session, address, headers)
    status = answer.response.status_code
    if status == 416:  # what is here is no part of the file
        _forget(partial)
        answer.response.close()
        return _follow(session, address, {"Accept-Encoding": "identity"})
    if status in _TEMPORARY:
        answer.response.close()
        raise _TransferError(f"the server answers {status}")
    if status not in (200, 206):
        answer.response.close()
        raise _RefusedError(f"the server answers {status}")
    return answer


def _follow(session, address: str, headers: dict[str, str]) -> _Answer:
    """The answer behind all redirects, each of which must be an address that is allowed."""
    import requests

    published: dict[str, str] = {}
    for _ in range(_MAX_REDIRECTS):
        _check_address(address)
        try:
            response = session.get(
                address, headers=headers, stream=True, allow_redirects=False, timeout=_TIMEOUT
            )
        except requests.RequestException as error:
            raise _TransferError(_reason(error)) from error
        if len(digest := response.headers.get(_HUB_SUM, "").strip('"')) == 64:
            published.setdefault("sha256", digest)
        if revision := response.headers.get(_HUB_REVISION):
            published.setdefault("revision", revision)
        if not response.is_redirect:
            return _Answer(response, published)
        address = urljoin(address, response.headers["location"])
        response.close()
    raise _RefusedError(f"more than {_MAX_REDIRECTS} redirects")


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    host = parts.hostname or ""
    is_local = host == "localhost"
    with contextlib.suppress(ValueError):
        is_local = is_local or ipaddress.ip_address(host).is_loopback
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise ResourceError(f"{address} is not downloaded: only https is, and http of this machine")


def _receive(response, partial: Path) -> None:
    import urllib3

    start = _size(partial) if response.status_code == 206 else 0
    if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(
        f"bytes {start}-"
    ):
        _forget(partial)
        raise _TransferError("the server sends another part than was asked for")
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):  # a weak one may be of another file
        write_bytes(_beside(partial, ".etag"), etag.encode())
    elif not start:
        _beside(partial, ".etag").unlink(missing_ok=True)
    length = int(response.headers.get("Content-Length", 0))
    total = start + length if length else None
    size = f" ({total / 1e6:.0f} MB)" if total else ""
    log_line(f"downloading {response.url}{size}" + (f", from byte {start} on" if start else ""))
    with (
        partial.open("ab" if start else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
    ):
        try:
            # Not iter_content, which loses what came of a piece before the connection broke.
            while piece := response.raw.read1(_PIECE_BYTES):
                file.write(piece)
                bar.update(len(piece))
        except urllib3.exceptions.HTTPError as error:
            raise _TransferError(_reason(error)) from error
    if total and _size(partial) != total:
        raise _TransferError(f"{_size(partial)} of {total} bytes came")


def _reason(error: Exception) -> str:
    """The innermost reason of an error of requests, in a line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
