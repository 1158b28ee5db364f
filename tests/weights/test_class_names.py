import numpy as np
import pytest

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
