"""Scans that start from the headers of an earlier one, and errors that are collected."""

import pytest
from image_files import write_image

from ssd_jax.data.scan import Scan
from ssd_jax.errors import DataError


@pytest.fixture
def path(tmp_path):
    write_image(tmp_path / "it.jpg", orientation=6)
    return tmp_path / "it.jpg"


def test_an_image_that_did_not_change_is_not_opened_again(path):
    first = Scan()
    resolved = first.resolve_image_size(path, (100, 80))
    changed = {str(path): [*first.headers[str(path)][:2], 7, 9, 1]}
    assert Scan(changed).resolve_image_size(path).size == (7, 9)
    second = Scan(first.headers)
    assert second.resolve_image_size(path, (100, 80)) == resolved and second.is_unchanged()


@pytest.mark.parametrize(
    "entry", [[], [1, 2], None, "abcde", {"a": 1}, 7, [1, 2, "3", 4, 5], [1, 2, 3, 4, 5, 6]]
)
def test_what_is_no_header_of_an_earlier_scan_counts_as_absent(path, entry):
    status = Scan()
    status.resolve_image_size(path)
    if isinstance(entry, list):
        entry = status.headers[str(path)][: min(len(entry), 2)] + entry[2:]
    for previous in ({str(path): entry}, entry):
        scan = Scan(previous)
        assert scan.resolve_image_size(path).size == (100, 80)
        assert not scan.is_unchanged()


def test_sizes_of_any_length_are_compared(path):
    for size in ((80, 10**400), (10**400, 100), (10**4000, 10**4000)):
        with pytest.raises(DataError, match=r"it.jpg: 100x80 pixels") as error:
            Scan().resolve_image_size(path, size)
        assert len(str(error.value)) < 1000
    square = (8 * 10**400, 10**401)
    assert "wrong sizes" in str(Scan().resolve_image_size(path, square).corrections)


def test_errors_are_raised_together_or_collected():
    def read(key):
        if key % 2:
            raise DataError(f"{key} is odd")
        return key

    with pytest.raises(DataError, match="(?s)^1 is odd\n3 is odd\n.*9 is odd\nand 1 more$"):
        Scan().map_collecting_errors(read, range(12))
    scan = Scan(collect_errors=True)
    assert list(scan.map_collecting_errors(read, range(12))) == [0, 2, 4, 6, 8, 10]
    scan.collect([DataError("more")])
    assert len(scan.errors) == 7
