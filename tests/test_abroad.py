"""Tests of kd_lib.abroad: Belgian photographs under German classes."""

import dataclasses

import numpy as np
import pytest

from kd_lib import abroad, signs
from kd_lib.datasets import Dataset, Split


def belgian():
    """A Dataset with the classes of BTSC: each image is of one value, its class, and shows pole number 3."""

    def split(count):
        labels = np.arange(count, dtype=np.int32) % 62
        images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (count, 8, 8, 3))
        return Split(
            images, labels, np.full(count, 3, np.int32), np.array([f"{place:05d}.ppm" for place in range(count)])
        )

    parts = {"train": split(124), "validation": split(62), "test": split(62)}
    return Dataset(name="btsc", class_names=tuple(map(str, range(62))), image_size=8, **parts)


def test_belgian_signs_come_under_the_german_class_of_the_same_meaning():
    found = abroad.as_german(belgian())
    assert found.class_names == tuple(signs.CLASS_NAMES) and found.name == "btsc"
    assert len(found.test) == 4 * len(abroad.GERMAN) == 80
    classes = found.test.images[:, 0, 0, 0]
    assert all(abroad.GERMAN[int(old)] == new for old, new in zip(classes, found.test.labels, strict=True))
    assert len(set(abroad.GERMAN.values())) == len(abroad.GERMAN), "no German class stands for two Belgian ones"
    meant = {7: "Children", 19: "Yield", 21: "Stop", 22: "No entry", 61: "Priority road"}
    assert all(signs.CLASS_NAMES[abroad.GERMAN[label]] == name for label, name in meant.items())


def test_poles_and_names_of_training_and_test_are_told_apart():
    found = abroad.as_german(belgian()).test
    parts = np.char.partition(found.ids, "/")[:, 0]
    assert set(parts) == {"train", "test"}
    assert not set(found.groups[parts == "train"]) & set(found.groups[parts == "test"])


def test_other_data_is_no_belgian_one():
    with pytest.raises(ValueError, match="takes the Dataset of BTSC. Received: road"):
        abroad.as_german(dataclasses.replace(belgian(), name="road"))
