import micro
import numpy as np
import pytest
import voc_folders

from ssd_jax import evaluate, training
from ssd_jax.data import sources
from ssd_jax.errors import DataError
from ssd_jax.visualize.images import save_image
from ssd_jax.weights.class_names import match_class_names
from ssd_jax.weights.coco_classes import COCO_CLASSES
from ssd_jax.weights.imported import ImportedWeights
from ssd_jax.weights.remap import fit_to_model

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def test_every_class_of_pascal_voc_is_one_of_coco():
    matched = match_class_names(VOC, COCO_CLASSES)
    assert {name: other for name, other in matched.items() if name != other} == {
        "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle",
        "pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv",
    }  # fmt: skip
    assert matched.keys() == set(VOC)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Cattle", "cow"), ("Flying disc", "frisbee"), ("Television", "tv"), ("Ski", "skis"),
        ("Kitchen & dining room table", "dining table"), ("Hot dog", "hot dog"),
        ("traffic_light", "traffic light"), ("Wine-Glass", "wine glass"),
        ("STOP SIGN", "stop sign"),
        ("Doughnut", "donut"), ("Houseplant", "potted plant"), ("Microwave oven", "microwave"),
    ],
)  # fmt: skip
def test_open_images_and_other_spellings(name, other):
    assert match_class_names((name,), COCO_CLASSES) == {name: other}
    assert match_class_names((other,), (name,)) == {other: name}


@pytest.mark.parametrize("name", ["raccoon", "unused", "cats", "12", "", "#1", "toy train"])
def test_other_classes_match_nothing(name):
    assert match_class_names((name,), COCO_CLASSES) == {}


def test_a_class_is_taken_once_and_by_its_own_name_first():
    assert match_class_names(("sofa", "couch"), ("couch", "chair")) == {"couch": "couch"}
    assert match_class_names(("TV", "television"), ("tv",)) == {"TV": "tv"}
    assert match_class_names(("sofa",), ("Couch", "sofa")) == {"sofa": "sofa"}


def test_a_synonym_keeps_its_column_and_the_report_says_so():
    theirs = {"heads/classification_0/bias": np.array([1, 2, 3], np.float32)}
    like = {"heads/classification_0/bias": np.zeros(3, np.float32)}
    found = fit_to_model(ImportedWeights(theirs, {}, ("cat", "couch")), like, ("sofa", "cat"))
    np.testing.assert_array_equal(found.tensors["heads/classification_0/bias"], [1, 3, 2])
    assert found.report == [
        "  heads        boxes, background and 2 of 2 classes by name",
        "  same class   sofa = couch",
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    training.train_and_evaluate(CONFIG, folder)
    return folder


CONFIG = micro.get_config(steps=200, eval_every=0, optim__learning_rate=0.05)
SETS = {
    "the run's names": ("disk", "triangle"),
    "other names": ("Triangle", "DISK"),  # in the order of the file, sorted, another than the run's
}


def write_scenes(folder, names):
    """Twelve training scenes as a VOC folder, their disks and triangles under these names."""
    source = sources.make_source(("shapes:train:12",), CONFIG)
    for i in range(len(source)):
        example, things = source[i], []
        for box, label in zip(example["boxes"] * 32, example["labels"]):
            kind = source.classes[label - 1]
            if name := next((name for name in names if name.lower() == kind), None):
                corners = box + np.array([1, 1, 0, 0])  # 1-based and inclusive
                things.append(voc_folders.thing(name, corners))
        voc_folders.add(folder, f"{i:03d}", voc_folders.xml(*things, size=(32, 32)), ".png")
        save_image(folder / "JPEGImages" / f"{i:03d}.png", example["image"])
    voc_folders.split(folder, "val", "\n".join(f"{i:03d}" for i in range(len(source))))
    return micro.get_config(postprocess__top_k=80, data__test=(f"voc:{folder}:val",))


def test_a_run_is_scored_on_a_set_that_gives_its_classes_other_names(trained, tmp_path, capsys):
    """Each class has the score that it has under the run's own name."""
    scores = {
        kind: evaluate.evaluate_run(trained, write_scenes(tmp_path / kind, names))
        for kind, names in SETS.items()
    }
    assert "2 of the run's 4 classes are scored: DISK = disk, Triangle = triangle" in (
        capsys.readouterr().err
    )
    own, other = scores["the run's names"], scores["other names"]
    for name in ("disk", "triangle"):
        theirs = next(key for key in SETS["other names"] if key.lower() == name)
        assert other[f"voc/AP50_area/{theirs}"] == pytest.approx(own[f"voc/AP50_area/{name}"])
        assert own[f"voc/AP50_area/{name}"] > 0.01
    assert other["voc/mAP50_area"] == pytest.approx(own["voc/mAP50_area"])


def test_a_set_with_a_class_that_the_run_lacks_is_refused(trained, tmp_path):
    with pytest.raises(DataError, match="unknown class 'Hexagon'"):
        evaluate.evaluate_run(trained, write_hexagons(tmp_path))


def write_hexagons(folder):
    voc_folders.add(folder, "0", voc_folders.xml(voc_folders.thing("Hexagon")))
    voc_folders.split(folder, "val", "0")
    return micro.get_config(data__test=(f"voc:{folder}:val",))
