"""Tests of the losses on features: against float64 references, and what must hold for any features."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_lib import losses


def draw(*shape, seed=0, size=5.0):
    return np.random.default_rng(seed).normal(0, size, shape).astype(np.float32)


def gradient(loss, student, *rest):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss(student, *rest)
    return value.numpy(), tape.gradient(value, student).numpy()


# Attention transfer


def attention_reference(student, teacher):
    def attention(features):
        energy = np.mean(np.float64(features) ** 2, axis=-1).reshape(len(features), -1)
        return energy / np.linalg.norm(energy, axis=1, keepdims=True)

    return np.mean((attention(student) - attention(teacher)) ** 2, axis=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1e-3, 1.0, 1e3]))
def test_attention_transfer_agrees_with_float64(seed, batch, height, channels, size):
    student = draw(batch, height, 3, channels, seed=seed, size=size)
    teacher = draw(batch, height, 3, 5, seed=seed + 1)
    found = losses.attention_transfer(student, teacher)
    assert found.shape == (batch,)
    np.testing.assert_allclose(found, attention_reference(student, teacher), rtol=1e-5, atol=1e-9)


def test_attention_transfer_looks_at_places_not_at_sizes():
    teacher = draw(3, 4, 4, 8)
    np.testing.assert_allclose(losses.attention_transfer(-7.0 * teacher, teacher), 0.0, atol=1e-12)
    moved = np.roll(teacher, 1, axis=1)
    assert losses.attention_transfer(moved, teacher).numpy().min() > 1e-4


@pytest.mark.parametrize("student", [np.zeros((2, 3, 3, 4)), np.full((2, 3, 3, 4), 1e4)], ids=["zeros", "huge"])
def test_attention_transfer_of_dead_and_huge_maps_is_finite(student):
    value, slope = gradient(losses.attention_transfer, np.float32(student), draw(2, 3, 3, 2))
    assert np.isfinite(value).all() and np.isfinite(slope).all()


@pytest.mark.parametrize("shapes", [((2, 4, 4, 3), (2, 2, 2, 3)), ((2, 8), (2, 8))], ids=["height", "no map"])
def test_attention_transfer_of_maps_that_do_not_fit_is_refused(shapes):
    with pytest.raises(ValueError, match="same height and width"):
        losses.attention_transfer(*map(np.zeros, shapes))


# Hints


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_hint_agrees_with_float64(seed, shape):
    student, teacher = draw(*shape, seed=seed), draw(*shape, seed=seed + 1)
    expected = np.mean((np.float64(student) - teacher) ** 2, axis=tuple(range(1, len(shape))))
    found = losses.hint(student, teacher)
    assert found.shape == (shape[0],)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hint_of_unequal_shapes_is_refused_and_says_who_joins_them():
    with pytest.raises(ValueError, match=r"same shape.*\(2, 4\).*\(2, 6\).*projector"):
        losses.hint(np.zeros((2, 4)), np.zeros((2, 6)))


# Relational distillation


def rkd_reference(student, teacher):
    def relations(embedding):
        points = np.float64(embedding).reshape(len(embedding), -1)
        apart = points[None] - points[:, None]  # [i, j] = x_j - x_i
        distances = np.linalg.norm(apart, axis=-1)
        count = len(points)
        directions = apart / np.where(distances, distances, 1.0)[..., None]
        mean = distances.sum() / (count * (count - 1))
        return distances / (mean or 1.0), np.einsum("ijd,ikd->ijk", directions, directions)

    def huber(difference):
        size = np.abs(difference)
        return np.where(size < 1, 0.5 * size**2, size - 0.5).mean()

    (one, two), (wanted_one, wanted_two) = relations(student), relations(teacher)
    return 25 * huber(one - wanted_one) + 50 * huber(two - wanted_two)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000), st.integers(2, 12), st.integers(1, 20), st.floats(-100, 100), st.sampled_from([0.01, 1, 50])
)
def test_rkd_agrees_with_float64(seed, batch, width, shift, size):
    student = draw(batch, width, seed=seed) + np.float32(shift)
    teacher = draw(batch, 7, seed=seed + 1, size=size)
    found = losses.rkd(student, teacher)
    assert found.shape == ()
    np.testing.assert_allclose(found, rkd_reference(student, teacher), rtol=2e-4, atol=1e-5)


def test_rkd_keeps_shape_not_place_size_or_orientation():
    teacher = draw(8, 5)
    turned = np.linalg.qr(draw(5, 5, seed=1))[0]
    np.testing.assert_allclose(losses.rkd(3.0 * teacher @ turned + 10.0, teacher), 0.0, atol=1e-5)
    assert losses.rkd(teacher * np.array([1, 1, 1, 1, 9.0]), teacher) > 0.1


@pytest.mark.parametrize("kind", ["equal images", "two equal", "huge"])
def test_rkd_of_equal_and_huge_embeddings_is_finite(kind):
    points, teacher = draw(6, 4), draw(6, 3, seed=2)
    rows, size = {"equal images": ([0] * 6, 1), "two equal": ([0, 0, 1, 2, 3, 4], 1), "huge": (range(6), 1e4)}[kind]
    student = points[list(rows)] * np.float32(size)
    value, slope = gradient(losses.rkd, student, teacher)
    assert np.isfinite(value).all() and np.isfinite(slope).all()
    np.testing.assert_allclose(value, rkd_reference(student, teacher), rtol=1e-4)


def test_rkd_flattens_maps():
    student, teacher = draw(4, 2, 2, 3), draw(4, 5, seed=1)
    np.testing.assert_allclose(losses.rkd(student, teacher), losses.rkd(student.reshape(4, -1), teacher), rtol=1e-6)


def test_rkd_needs_two_images():
    with pytest.raises(ValueError, match="rkd compares the images of a batch.*a batch of 1"):
        losses.rkd(np.zeros((1, 3)), np.zeros((1, 3)))


# All


@pytest.mark.parametrize("name", list(losses.FEATURE_LOSSES))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_features_are_computed_in_float32(name, dtype):
    student, teacher = (tf.cast(draw(4, 3, 3, 6, seed=seed), dtype) for seed in (0, 1))
    loss = losses.FEATURE_LOSSES[name](student, teacher)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(
        loss, losses.FEATURE_LOSSES[name](tf.cast(student, "float32"), tf.cast(teacher, "float32")), rtol=1e-6
    )


@pytest.mark.parametrize("name", list(losses.FEATURE_LOSSES))
def test_features_without_a_feature_axis_are_refused_by_name(name):
    with pytest.raises(ValueError, match=r"student_\w+ must have shape"):
        losses.FEATURE_LOSSES[name](np.zeros(4), np.zeros((4, 2)))


@pytest.mark.parametrize("name", list(losses.FEATURE_LOSSES))
def test_batches_whose_size_is_known_at_run_time_only_are_taken(name):
    function = tf.function(
        losses.FEATURE_LOSSES[name], input_signature=[tf.TensorSpec((None, 3, 3, 4), tf.float32)] * 2
    )
    student, teacher = draw(5, 3, 3, 4), draw(5, 3, 3, 4, seed=1)
    np.testing.assert_allclose(function(student, teacher), losses.FEATURE_LOSSES[name](student, teacher), rtol=1e-5)
    assert keras.backend.standardize_dtype(function(student, teacher).dtype) == "float32"
