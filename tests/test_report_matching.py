"""The table of how many priors truths get."""

import io
import tarfile

import numpy as np
import pytest

from configs import ssd300_vgg16_voc
from scripts import annotated
from scripts import report_matching as report
from ssd_jax.errors import DataError

XML = """<annotation><size><width>300</width><height>300</height></size>{}</annotation>"""
OBJECT = """<object><name>a</name><difficult>1</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def archive(tmp_path):
    """An image with a small and a large object, one with two of the same, and one without."""
    objects = [[(140, 140, 149, 149), (1, 1, 300, 300)], [(141, 141, 148, 148)] * 2, []]
    path = tmp_path / "annotations.tar.gz"
    with tarfile.open(path, "w:gz") as files:
        for number, corners in enumerate(objects):
            data = XML.format("".join(OBJECT.format(*box) for box in corners)).encode()
            member = tarfile.TarInfo(f"Annotations/{number}.xml")
            member.size = len(data)
            files.addfile(member, io.BytesIO(data))
    return path


def test_an_archive_is_counted_by_hand(archive):
    images = annotated.read(archive)
    assert [len(image.boxes) for image in images] == [2, 2, 0]
    for matcher, small in (("best_prior", [1, 1, 0]), ("bipartite", [1, 1, 1])):
        areas, counts = report.priors_of_truths(images, ssd300_vgg16_voc.get_config(), matcher)
        np.testing.assert_allclose(areas, [100, 300**2, 64, 64], rtol=1e-4)
        assert counts[[0, 2, 3]].tolist() == small and counts[1] >= 2
    assert len(annotated.read(archive, every=2)) == 2


def test_the_table_and_the_picture(tmp_path):
    counts = np.array([0, 1, 12]), np.array([10.0, 20.0, 99.0**2])
    results = {(n, m): (counts[1], counts[0]) for n in report.NETWORKS for m in report.MATCHERS}
    for size in annotated.SIZES.values():
        assert size[0] < size[1]
    areas = np.concatenate([counts[1], [50.0**2]])
    results = {key: (areas, np.append(counts[0], 5)) for key in results}
    lines = report.table(results).splitlines()
    assert len(lines) == 2 + 12
    small = "| SSD300 | small | best_prior | 2 | 0.50 | 0 | 1 | 50.0 % | 0.0 % | 0.0 % | 0.0 % |"
    assert lines[2] == small
    assert lines[4].endswith("| 1 | 12.00 | 12 | 0 | 0.0 % | 0.0 % | 0.0 % | 100.0 % |")
    report.draw(results, tmp_path / "docs" / "x.png")
    assert (tmp_path / "docs" / "x.png").stat().st_size > 1000


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "annotations.tar.gz"
    with pytest.raises(DataError, match="not an archive"):
        annotated.read(path)
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="not an archive"):
        annotated.read(path)
