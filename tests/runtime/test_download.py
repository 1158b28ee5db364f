"""Downloads from a server of this machine, and all that goes wrong with them."""

import errno
import hashlib
import json
import multiprocessing
import os
import socket
from pathlib import Path

import loopback
import numpy as np
import pytest

from ssd_jax.errors import CheckpointError, ResourceError
from ssd_jax.runtime import download

CONTENT = np.random.default_rng(0).bytes(300_000)
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_FIRST_WAIT", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with loopback.serve() as running:
        running.files["/w.pth"] = CONTENT
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new" / "w.pth"


def fetch(server, target, sha256="", path="/w.pth"):
    return download.fetch(server.url + path, target, sha256)


def left(target):
    return sorted(path.name for path in target.parent.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_downloaded_once_and_recorded(server, target, capsys):
    record = fetch(server, target, SUM[:8])
    assert target.read_bytes() == CONTENT
    assert record["sha256"] == SUM and record["size"] == len(CONTENT)
    assert record["address"] == f"{server.url}/w.pth"
    assert json.loads((target.parent / "w.pth.json").read_text()) == record
    assert left(target) == ["w.pth", "w.pth.json"]
    assert "downloading" in capsys.readouterr().err
    assert fetch(server, target, SUM[:8]) == record == download.read_record(target)
    assert len(server.requests) == 1


def test_without_a_sum_the_line_says_so(server, target, capsys):
    fetch(server, target)
    assert f"no sum is published; its SHA-256 {SUM} is recorded" in capsys.readouterr().err


@pytest.mark.parametrize("cuts", [[100_000], [1, 99_999, 3], [0, 0, 250_000], [0] * 4])
def test_a_connection_that_breaks_is_resumed(server, target, cuts):
    server.cuts["/w.pth"] = list(cuts)
    assert fetch(server, target, SUM)["sha256"] == SUM
    starts = np.cumsum([0, *cuts]).tolist()
    assert [start for _, start in server.requests] == starts


def test_a_connection_that_never_brings_a_byte_is_given_up(server, target):
    server.cuts["/w.pth"] = [1000] + [0] * 99
    with pytest.raises(ResourceError, match=rf"cannot download .*copy it to {target}"):
        fetch(server, target, SUM)
    assert len(server.requests) == 6
    server.cuts.clear()  # another day
    fetch(server, target, SUM)
    assert server.requests[-1] == ("/w.pth", 1000)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("etags", [True, False])
def test_a_file_that_changed_meanwhile_is_begun_anew(server, target, etags):
    server.etags = etags
    server.files["/w.pth"] = b"an older file" * 1000
    server.cuts["/w.pth"] = [5000] + [0] * 9
    with pytest.raises(ResourceError):
        fetch(server, target)
    server.files["/w.pth"], server.cuts = CONTENT, {}
    assert fetch(server, target, SUM)["sha256"] == SUM


def test_a_part_that_is_longer_than_the_file_is_begun_anew(server, target):
    server.cuts["/w.pth"] = [200_000] + [0] * 9
    with pytest.raises(ResourceError):
        fetch(server, target)
    server.cuts.clear()
    part = target.with_name("w.pth.part")
    part.write_bytes(part.read_bytes() + CONTENT)
    assert fetch(server, target, SUM)["sha256"] == SUM


def test_an_answer_that_may_be_better_next_time_is_waited_for(server, target):
    server.statuses["/w.pth"] = [503, 429, 500]
    assert fetch(server, target, SUM)["sha256"] == SUM


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_answer_that_stays_is_an_error_at_once(server, target, status):
    server.statuses["/w.pth"] = [status]
    with pytest.raises(
        ResourceError, match=rf"w.pth \(the server answers {status}\).*copy it to {target}"
    ):
        fetch(server, target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("published", ["00000000", SUM[:-1] + ("0" if SUM[-1] != "0" else "1")])
def test_another_file_is_removed(server, target, published):
    with pytest.raises(CheckpointError, match=rf"SHA-256 is {SUM}, and the published one"):
        fetch(server, target, published)
    assert left(target) == []


def test_the_hub_tells_sum_and_revision_before_it_redirects(server, target):
    server.redirects["/hub"] = f"{server.url}/w.pth"
    server.headers["/hub"] = {"X-Linked-Etag": f'"{SUM}"', "X-Repo-Commit": "c0ffee"}
    record = fetch(server, target, path="/hub")
    assert record["revision"] == "c0ffee"
    server.headers["/hub"]["X-Linked-Etag"] = f'"{"0" * 64}"'
    with pytest.raises(CheckpointError, match="the server's one 000"):
        fetch(server, target.with_name("other"), path="/hub")


def test_redirects_are_followed_where_they_are_safe(server, target):
    server.redirects |= {"/a": "/b", "/b": f"{server.url}/w.pth", "/loop": "/loop"}
    assert fetch(server, target, SUM, "/a")["sha256"] == SUM
    server.redirects["/plain"] = "http://192.0.2.1/w.pth"
    server.redirects["/file"] = "file:///etc/passwd"
    for path, reason in (
        ("/plain", "only https"), ("/file", "only https"), ("/loop", "more than 10 redirects"),
    ):  # fmt: skip
        with pytest.raises(ResourceError, match=reason):
            fetch(server, target.with_name("x"), path=path)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/x",
        "ftp://127.0.0.1/x",
        "file:///x",
        "127.0.0.1/x",
        "http://127.0.0.1.org/x",
    ],
)
def test_plain_http_to_other_machines_is_refused(target, address):
    with pytest.raises(ResourceError, match="is not downloaded: only https"):
        download.fetch(address, target)


def test_without_a_network_the_error_says_what_to_copy_where(server, target):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/w.pth"
    with pytest.raises(ResourceError, match=rf"{address} \(.*refused.*copy it to {target}"):
        download.fetch(address, target)
    target.write_bytes(CONTENT)  # as it says
    record = download.fetch(address, target, SUM[:8])
    assert record["sha256"] == SUM and "address" not in record


def test_a_wrong_file_that_was_copied_is_refused(server, target):
    target.parent.mkdir()
    target.write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match="not the file that was asked for"):
        fetch(server, target, SUM[:8])


def test_a_file_that_changes_later_is_refused(server, target):
    fetch(server, target)
    target.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(CheckpointError, match=rf"has changed since 20.*was {SUM}. Remove the file"):
        fetch(server, target)
    target.unlink()
    assert fetch(server, target)["sha256"] == SUM


def test_a_damaged_record_is_made_again(server, target):
    fetch(server, target)
    for content in ("", "[]", '{"sha256": 3}', "nonsense"):
        target.with_name("w.pth.json").write_text(content)
        assert download.read_record(target) is None
        assert fetch(server, target, SUM)["sha256"] == SUM


def test_a_full_disk_keeps_what_came(server, target, monkeypatch):
    opened = Path.open

    class Full:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def write(self, data):
            self._file.write(data[:1000])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def open_full(path, mode="r", *args, **kwargs):
        file = opened(path, mode, *args, **kwargs)
        return Full(file) if path.suffix == ".part" and mode in ("ab", "wb") else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(ResourceError, match="No space left.*free disk space.*goes on"):
            fetch(server, target)
    assert fetch(server, target, SUM)["sha256"] == SUM
    assert server.requests[-1] == ("/w.pth", 1000)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write .*XDG_CACHE_HOME"):
        fetch(server, tmp_path / "file" / "w.pth")


def _fetch_in_a_process(url, target, queue):
    queue.put(download.fetch(url, target)["sha256"])


def test_two_processes_download_once(server, target):
    server.delay = 0.3
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(target=_fetch_in_a_process, args=(f"{server.url}/w.pth", target, queue))
        for _ in range(2)
    ]
    for each in processes:
        each.start()
    assert [queue.get(timeout=60) for _ in processes] == [SUM, SUM]
    for each in processes:
        each.join()
    assert len(server.requests) == 1
