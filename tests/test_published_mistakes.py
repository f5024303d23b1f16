"""Mistakes of published training code that are not a distiller's: for each a promise, how kd_lib keeps it, and a few
lines that break it as that code does. (A distiller's own stand in test_distiller.py and defective.py.)"""

import dataclasses

import keras
import numpy as np
import pytest
from small import coloured_patches, dataset_of

from kd_lib import Distiller, course, evaluation, feeding, models
from kd_lib.datasets import load_dataset
from kd_lib.scale import Scale
from kd_lib.training import Config, fit_or_load, seeded
from kd_lib.views import augment, view_table

CONFIG = Config(epochs=2, batch_size=20, views=None)


def network(seed=0):
    return seeded(seed, models.student, 5, 16, width=1 / 16)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path))


# Promises: each takes the way in which something is done, and asserts what must hold.
def the_student_is_smaller_than_its_teacher(pairs):
    for student, teacher in pairs():
        assert evaluation.count_params(student) < evaluation.count_params(teacher)
        assert evaluation.count_macs(student) < evaluation.count_macs(teacher)


def a_student_starts_untrained(teach):
    student = network()
    student.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    student.fit(coloured_patches(20).images, coloured_patches(20).labels, verbose=0)
    with pytest.raises(ValueError, match="trained before"):
        teach(student)


def what_is_called_accuracy_is_the_share_of_right_answers(accuracy):
    distiller = Distiller(network(), network(seed=1))
    distiller.compile("sgd")
    patches = coloured_patches(40)
    answers = distiller.student.predict(patches.images, verbose=0).argmax(axis=1)
    assert float(accuracy(distiller, patches)) == pytest.approx(np.mean(answers == patches.labels))


def the_test_images_choose_nothing(train):
    """Two data sets that differ in their test images alone give the same network."""
    one = dataset_of(coloured_patches(100))
    other = dataclasses.replace(one, test=dataclasses.replace(one.test, labels=(one.test.labels + 1) % 5))
    first, second = (train(network(), dataset).get_weights() for dataset in (one, other))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def a_batch_holds_many_classes(order):
    labels = np.sort(np.arange(300) % 10)
    assert min(len(np.unique(labels[batch])) for batch in order(labels).reshape(-1, 30)) >= 5


def the_backbone_sees_values_from_minus_1_to_1(build):
    pictures = np.stack([np.full((32, 32, 3), value, np.float32) for value in (0, 255)])
    found = build()
    (place,) = [place for place, layer in enumerate(found.layers) if isinstance(layer, keras.Model)]
    seen = keras.Model(found.input, found.layers[place - 1].output)(pictures).numpy()
    assert (seen.min(), seen.max()) == (pytest.approx(-1), pytest.approx(1))


def a_sign_is_never_mirrored(view):
    ramp = np.broadcast_to(np.linspace(230, 20, 32)[None, None, :, None], (60, 32, 32, 3)).astype(np.float32)
    seen = np.asarray(view(ramp)).mean(axis=(1, 3))
    assert (seen[:, :16].mean(axis=1) > seen[:, 16:].mean(axis=1)).all()


# How kd_lib does it, and how published code did.
def course_pairs():
    dataset = load_dataset("signs", limit=43)
    for name in ("laptop", "full"):
        scale = Scale.named(name)
        size = {"stream_width": scale.teacher_width, "downsample": True, "cells": scale.teacher_cells}
        yield course.new_student(dataset, 0), models.teacher(43, 32, **size)


def wide_student():
    scale = Scale.named("laptop")
    yield models.student(43, width=1.0), models.teacher(43, 32, scale.teacher_width, downsample=True, cells=1)


def fit_on(student):
    distiller = Distiller(student, network(seed=1))
    distiller.compile("sgd")
    distiller.fit(coloured_patches(20).images, coloured_patches(20).labels, verbose=0)


def best_on_test(model, dataset):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.001), loss, metrics=["accuracy"])
    best = (-1.0, None)
    for _ in range(4):
        model.fit(dataset.train.images, dataset.train.labels, batch_size=20, shuffle=False, verbose=0)
        accuracy = model.evaluate(dataset.test.images, dataset.test.labels, verbose=0)[1]
        best = max(best, (accuracy, model.get_weights()), key=lambda pair: pair[0])
    model.set_weights(best[1])
    return model


def mobilenet_in_0_to_1():
    inputs = keras.Input((32, 32, 3))
    backbone = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)
    maps = backbone(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))


def our_views(images):
    return augment(images, view_table(len(images), 1)[0], 0.25)


CASES = {
    the_student_is_smaller_than_its_teacher: (course_pairs, wide_student),
    a_student_starts_untrained: (
        lambda student: fit_or_load("s", Distiller(student, network(1)), dataset_of(coloured_patches(40)), CONFIG),
        fit_on,
    ),
    what_is_called_accuracy_is_the_share_of_right_answers: (
        lambda distiller, data: distiller.evaluate(data.images, data.labels, verbose=0, return_dict=True)["accuracy"],
        lambda distiller, data: distiller.evaluate(data.images, data.labels, verbose=0)[0],
    ),
    the_test_images_choose_nothing: (
        lambda model, dataset: fit_or_load(f"t{dataset.test.labels[0]}", model, dataset, CONFIG, progress=False).model,
        best_on_test,
    ),
    a_batch_holds_many_classes: (
        lambda labels: feeding.plan(labels, epochs=1, batch_size=30, views=None).index,
        lambda labels: np.arange(len(labels)),
    ),
    the_backbone_sees_values_from_minus_1_to_1: (
        lambda: models.mobilenet_v2(43, 32, weights=None),
        mobilenet_in_0_to_1,
    ),
    a_sign_is_never_mirrored: (our_views, keras.layers.RandomFlip("horizontal", seed=0)),
}


@pytest.mark.parametrize("promise", CASES, ids=lambda promise: promise.__name__)
def test_kd_lib_keeps_the_promise_that(promise):
    promise(CASES[promise][0])


@pytest.mark.parametrize("promise", CASES, ids=lambda promise: promise.__name__)
def test_published_code_breaks_the_promise_that(promise):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        promise(CASES[promise][1])
