"""Tests of kd_lib.steady: arrays become the batches that Keras would make of them, without tf.data's tuning."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf.data feeds TensorFlow", allow_module_level=True)

from keras import layers

from kd_lib import Distiller, steady


def rows(count=10):
    return np.arange(count, dtype=np.float64)


def shown(stream):
    return np.concatenate([np.array(batch[0]) for batch in stream])


def distiller():
    student = keras.Sequential([layers.Input((1,)), layers.Dense(2)])
    made = Distiller(student, alpha=1.0)
    made.compile(keras.optimizers.SGD(0.1))
    return made


def test_batches_are_in_order_and_the_last_one_is_smaller():
    stream = steady.of_arrays(rows(), rows().astype(int), batch_size=4)
    assert [len(x) for x, _ in stream] == [4, 4, 2] == [len(y) for _, y in stream]
    assert shown(stream).tolist() == rows().tolist() and int(stream.cardinality()) == 3
    assert stream.options().autotune.enabled is False


def test_each_pass_has_another_order_and_a_seed_repeats_them():
    passes = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        stream = steady.of_arrays(rows(50), rows(50), batch_size=50, shuffle=True)
        passes.append([shown(stream).tolist() for _ in range(2)])
    assert passes[0] == passes[1] and passes[0][0] != passes[0][1]
    assert sorted(passes[0][0]) == rows(50).tolist()


def test_what_belongs_to_a_row_stays_with_it():
    y, weights = {"label": rows() + 100, "teacher_logits": rows()[:, None] + 200}, {"label": rows() + 300}
    stream = steady.of_arrays(rows(), y, weights, batch_size=3, shuffle=True)
    for x, targets, weight in stream:
        np.testing.assert_array_equal(targets["label"], x + 100)
        np.testing.assert_array_equal(targets["teacher_logits"][:, 0], x + 200)
        np.testing.assert_array_equal(weight["label"], x + 300)


def test_floats_have_the_precision_of_keras_and_whole_numbers_stay():
    for x, y in steady.of_arrays(rows(), np.arange(10, dtype=np.uint8), batch_size=10):
        assert x.dtype == keras.backend.floatx() and y.dtype == np.uint8


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": [rows()], "y": [0] * 10},
        {"x": rows(), "y": None},
        {"x": rows(), "y": rows(3)},
        {"x": rows(), "y": rows(), "class_weight": {0: 1.0}},
        {"x": rows(), "y": rows(), "validation_split": 0.5},
        {"x": rows(), "y": rows(), "steps_per_epoch": 2},
        {"x": rows(), "y": rows(), "shuffle": "batch"},
        {"x": rows(), "y": {"label": rows()}, "sample_weight": {"labels": rows()}},
    ],
    ids=lambda arguments: list(arguments)[-1],
)
def test_what_it_does_not_know_is_left_to_keras(arguments):
    given = steady.arguments(distiller().fit, **arguments)
    assert given["x"] is arguments["x"] and given["y"] is arguments["y"]


def test_a_batch_size_that_keras_refuses_is_refused():
    with pytest.raises(Exception, match="Batch size must be greater than zero"):
        distiller().fit(rows(), rows().astype(int) % 2, batch_size=0, verbose=0)


def test_arrays_by_place_and_by_name_are_fed_and_measured_as_keras_does():
    x, y = np.random.default_rng(0).normal(size=(40, 1)), np.arange(40) % 2
    keras.utils.set_random_seed(0)
    one = distiller()
    begin = one.student.get_weights()
    history = one.fit(x, y, 8, 3, verbose=0, shuffle=False, validation_data=(x, y)).history
    other = keras.Sequential([layers.Input((1,)), layers.Dense(2)])
    other.set_weights(begin)
    other.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    expected = other.fit(x=x, y=y, batch_size=8, epochs=3, verbose=0, shuffle=False, validation_data=(x, y)).history
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["val_label_loss"], expected["val_loss"], rtol=1e-5)
    measured = one.evaluate(x, y, 8, 0, return_dict=True)
    assert measured["label_loss"] == pytest.approx(history["val_label_loss"][-1], rel=1e-5)
