"""Tests of kd_lib.losses: against a float64 reference, and what must hold for any logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kd_lib import losses


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def reference(student, teacher, temperature):
    """kd in float64: T² Σ p (log p - log q)."""
    teacher, student = (log_softmax(np.asarray(logits, np.float64) / temperature) for logits in (teacher, student))
    return temperature**2 * np.sum(np.exp(teacher) * (teacher - student), axis=-1)


def value_and_gradient(student, teacher, temperature):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = losses.kd(student, teacher, temperature)
    return loss.numpy(), tape.gradient(loss, student).numpy()


def draw(seed=0, batch=6, classes=43, size=5.0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, size, (2, batch, classes)).astype(np.float32)


_SIGNS = np.where(np.random.default_rng(0).random((4, 43)) < 0.5, -1e4, 1e4).astype(np.float32)
_CONSTANT = np.full_like(_SIGNS, 1e4)
HUGE = {
    "opposite": (_SIGNS, -_SIGNS),
    "equal": (_SIGNS, _SIGNS),
    "constant": (_CONSTANT, -_CONSTANT),
    "constant teacher": (_SIGNS, _CONSTANT),
    "constant student": (_CONSTANT, _SIGNS),
}


logits_pairs = hnp.arrays(
    np.float32, st.tuples(st.just(2), st.just(3), st.integers(2, 43)), elements=st.floats(-50, 50, width=32)
)


@settings(max_examples=60, deadline=None)
@given(logits_pairs, st.floats(-100, 100, width=32), st.sampled_from([0.5, 1.0, 2.0, 4.0, 10.0, 20.0]))
def test_kd_agrees_with_float64_to_one_part_in_100_000(pair, shift, temperature):
    student, teacher = pair
    student, teacher = student + np.float32(shift), teacher - np.float32(shift)
    found = keras.ops.convert_to_numpy(losses.kd(student, teacher, temperature))
    # Values near 0 are differences of near-equal float32 numbers: those are right to 1e-6 T².
    np.testing.assert_allclose(found, reference(student, teacher, temperature), rtol=1e-5, atol=1e-6 * temperature**2)


def test_kd_of_a_case_worked_by_hand():
    # Softened by T = 2: p = (3/4, 1/4), q = (1/2, 1/2). KL = 3/4 ln(3/2) + 1/4 ln(1/2).
    loss = losses.kd(np.zeros((1, 2)), np.array([[2 * np.log(3.0), 0.0]]), 2.0)
    np.testing.assert_allclose(loss, [4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))], rtol=1e-6)


def test_kd_gives_one_float32_per_image_and_does_not_average_over_classes():
    student, teacher = draw(batch=5)
    loss = losses.kd(student, teacher, 4.0)
    assert loss.shape == (5,) and keras.backend.standardize_dtype(loss.dtype) == "float32"
    twice = losses.kd(np.tile(student, 2) + np.log(2), np.tile(teacher, 2), 1.0)  # each class split into two halves
    np.testing.assert_allclose(twice, losses.kd(student, teacher, 1.0), rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(-100, 100, width=32), st.floats(-100, 100, width=32))
def test_kd_is_unchanged_when_a_constant_is_added_to_the_logits(seed, one, other):
    student, teacher = draw(seed)
    shifted = losses.kd(student + np.float32(one), teacher + np.float32(other), 4.0)
    np.testing.assert_allclose(shifted, losses.kd(student, teacher, 4.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_kd_of_equal_logits_is_zero_and_pulls_nowhere(temperature):
    logits, _ = draw()
    loss, gradient = value_and_gradient(logits, logits, temperature)
    np.testing.assert_array_equal(loss, 0.0)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_kd_is_positive_and_not_symmetric():
    student, teacher = draw()
    there, back = losses.kd(student, teacher, 4.0).numpy(), losses.kd(teacher, student, 4.0).numpy()
    assert there.min() > 0 and back.min() > 0
    assert np.abs(there - back).max() > 0.1


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient_of_kd_is_temperature_times_the_difference_of_softened_probabilities(temperature):
    student, teacher = draw()
    p, q = (np.exp(log_softmax(np.float64(logits) / temperature)) for logits in (teacher, student))
    _, gradient = value_and_gradient(student, teacher, temperature)
    np.testing.assert_allclose(gradient, temperature * (q - p), atol=1e-5 * temperature)


def test_the_size_of_the_gradient_tends_to_a_constant_as_the_temperature_grows():
    student, teacher = draw()
    sizes = [np.linalg.norm(value_and_gradient(student, teacher, temperature)[1]) for temperature in (50, 100, 200)]
    difference = np.float64(student) - teacher
    limit = np.linalg.norm(difference - difference.mean(axis=1, keepdims=True)) / student.shape[1]
    np.testing.assert_allclose(sizes, limit, rtol=0.02)
    assert (
        abs(np.linalg.norm(value_and_gradient(student, teacher, 4.0)[1]) / limit - 1) > 0.05
    )  # not there yet at T = 4


@pytest.mark.parametrize("temperature", [0.5, 4.0, 20.0])
@pytest.mark.parametrize("kind", list(HUGE))
def test_huge_and_constant_logits_give_finite_values_and_gradients(kind, temperature):
    student, teacher = HUGE[kind]
    loss, gradient = value_and_gradient(student, teacher, temperature)
    assert np.isfinite(loss).all() and np.isfinite(gradient).all()
    np.testing.assert_allclose(loss, reference(student, teacher, temperature), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_computed_in_float32(dtype):
    student, teacher = (tf.cast(tf.cast(logits, dtype), "float32") for logits in draw(size=20.0))
    loss = losses.kd(tf.cast(student, dtype), tf.cast(teacher, dtype), 20.0)
    assert loss.dtype == tf.float32
    np.testing.assert_array_equal(loss, losses.kd(student, teacher, 20.0))
    # T² times one log-probability would be infinite in float16 here.
    assert np.isfinite(losses.kd(np.array([[6e4, -6e4]], np.float16), np.array([[-6e4, 6e4]], np.float16), 1.0)).all()


def test_whole_numbers_are_accepted_as_logits():
    np.testing.assert_allclose(losses.kd([[2, 0]], [[0, 2]], 1), losses.kd([[2.0, 0.0]], [[0.0, 2.0]], 1.0))


def test_the_temperature_may_be_a_variable_and_the_graph_follows_it():
    student, teacher = draw()
    temperature = keras.Variable(4.0)
    graph = tf.function(lambda: losses.kd(student, teacher, temperature))
    np.testing.assert_allclose(graph(), losses.kd(student, teacher, 4.0), rtol=1e-5)
    temperature.assign(2.0)
    np.testing.assert_allclose(graph(), losses.kd(student, teacher, 2.0), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0, 0.0, -1, float("nan"), float("inf"), np.float32(-2), False])
def test_a_temperature_that_is_not_positive_is_refused_with_its_value(temperature):
    with pytest.raises(ValueError, match=f"temperature must be a positive number.*{temperature}"):
        losses.kd(*draw(), temperature)


@pytest.mark.parametrize(
    "make",
    [lambda: keras.Variable(0.0), lambda: tf.constant(-1.0), lambda: np.array(0.0), lambda: np.array([1.0, 2.0])],
)
def test_a_variable_that_is_no_temperature_is_refused(make):
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        losses.kd(*draw(), make())


def test_unequal_class_counts_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="10 student logits and 43 teacher"):
        losses.kd(np.zeros((2, 10)), np.zeros((2, 43)), 4.0)


def test_logits_of_the_wrong_rank_are_refused_by_name():
    with pytest.raises(ValueError, match=r"student_logits.*\[batch, classes\].*\(43,\)"):
        losses.kd(np.zeros(43), np.zeros((1, 43)), 4.0)
    with pytest.raises(ValueError, match=r"teacher_logits.*\(1, 43, 1\)"):
        losses.kd(np.zeros((1, 43)), np.zeros((1, 43, 1)), 4.0)


# The other losses on logits


def dkd_reference(student, teacher, labels, temperature, alpha, beta):
    """T² [alpha KL(b_t ‖ b_s) + beta KL(p̂_t ‖ p̂_s)] in float64, from logarithms."""
    rows = np.arange(len(labels))

    def split(logits):
        logits = np.asarray(logits, np.float64) / temperature
        others = np.delete(logits.ravel(), rows * logits.shape[1] + labels).reshape(len(labels), -1)
        mass = others.max(axis=1) + np.log(np.exp(others - others.max(axis=1, keepdims=True)).sum(axis=1))
        margin = logits[rows, labels] - mass
        return np.stack([-np.logaddexp(0, -margin), -np.logaddexp(0, margin)], axis=1), log_softmax(others)

    def divergence(teacher, student):
        return np.sum(np.exp(teacher) * (teacher - student), axis=1)

    (teacher_two, teacher_rest), (student_two, student_rest) = split(teacher), split(student)
    parts = alpha * divergence(teacher_two, student_two) + beta * divergence(teacher_rest, student_rest)
    return temperature**2 * parts


@settings(max_examples=60, deadline=None)
@given(logits_pairs, st.integers(0, 100), st.floats(-100, 100, width=32), st.sampled_from([0.5, 1.0, 4.0, 20.0]))
def test_dkd_agrees_with_float64(pair, seed, shift, temperature):
    student, teacher = pair[0] + np.float32(shift), pair[1] - np.float32(shift)
    labels = np.random.default_rng(seed).integers(0, pair.shape[2], 3)
    found = losses.dkd(student, teacher, labels, temperature, 1.5, 6.0)
    expected = dkd_reference(student, teacher, labels, temperature, 1.5, 6.0)
    # The losses are differences of logarithms: where these nearly cancel, their own rounding is left.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(temperature, temperature**2 * 0.1))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_its_two_parts_with_the_teachers_doubt_as_weight(temperature):
    student, teacher = draw(size=2.0)
    labels = np.arange(6)
    target = losses.dkd(student, teacher, labels, temperature, 1.0, 0.0)
    others = losses.dkd(student, teacher, labels, temperature, 0.0, 1.0)
    doubt = 1 - np.exp(log_softmax(np.float64(teacher) / temperature))[np.arange(6), labels]
    np.testing.assert_allclose(losses.kd(student, teacher, temperature), target + doubt * others, rtol=1e-5)


def test_dkd_of_two_classes_is_the_target_term_alone():
    student, teacher = draw(classes=2)
    labels = np.array([0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(losses.dkd(student, teacher, labels, 4.0, 0.0, 8.0), 0.0)
    np.testing.assert_allclose(
        losses.dkd(student, teacher, labels, 4.0, 1.0, 8.0), losses.kd(student, teacher, 4.0), rtol=1e-4, atol=1e-5
    )


def test_dkd_takes_labels_of_any_whole_type_and_shape_and_needs_them():
    student, teacher = draw()
    wanted = losses.dkd(student, teacher, np.arange(6), 4.0)
    np.testing.assert_array_equal(losses.dkd(student, teacher, np.arange(6.0)[:, None], 4.0), wanted)
    with pytest.raises(ValueError, match="needs labels"):
        losses.dkd(student, teacher, None, 4.0)
    with pytest.raises(ValueError, match=r"whole numbers \[batch\]. Received: shape=\(6, "):
        losses.dkd(student, teacher, np.eye(teacher.shape[1])[np.arange(6) % teacher.shape[1]], 4.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.0, 2.0, 8.0]), st.floats(0.01, 50), st.floats(-100, 100))
def test_standardized_kd_agrees_with_float64_and_ignores_scale_and_shift(seed, temperature, scale, shift):
    student, teacher = draw(seed)

    def standard(logits):
        logits = np.float64(logits)
        return (logits - logits.mean(axis=1, keepdims=True)) / (logits.std(axis=1, keepdims=True) + 1e-7)

    expected = reference(standard(student), standard(teacher), temperature)
    found = losses.standardized_kd(student, teacher, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-7 * temperature**2)
    changed = losses.standardized_kd(np.float32(scale) * student + np.float32(shift), teacher, temperature)
    # A shift of 100 leaves float32 an absolute precision of 1e-5, which counts where the scale is 0.01.
    np.testing.assert_allclose(changed, expected, rtol=1e-3 + 1e-4 / scale)


def dist_reference(student, teacher, temperature, beta=2.0, gamma=2.0):
    p, q = (np.exp(log_softmax(np.float64(logits) / temperature)) for logits in (teacher, student))
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (beta * (1 - rows) + gamma * (1 - columns))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(2, 12),
    st.integers(2, 43),
    st.sampled_from([1.0, 4.0]),
    st.sampled_from([1, 5, 20]),
    st.sampled_from([0, -100, 100]),
)
def test_dist_agrees_with_float64(seed, batch, classes, temperature, size, shift):
    # Of two numbers that are nearly 1, float32 does not know which is larger, and the correlation is 1 or -1 by that.
    student, teacher = draw(seed, batch, classes, size if min(batch, classes) > 2 else 1)
    student = student + np.float32(shift)
    found = losses.dist(student, teacher, temperature, 2.0, 3.0)
    assert found.shape == ()
    expected = dist_reference(student, teacher, temperature, 2.0, 3.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * temperature**2)


def test_one_image_has_a_kd_of_its_own():
    student, teacher = draw(batch=6)
    alone = losses.kd(student[:1], teacher[:1], 4.0)
    assert alone.shape == (1,) and float(alone[0]) == pytest.approx(
        float(losses.kd(student, teacher, 4.0)[0]), rel=1e-6
    )


def test_dist_ignores_constants_added_to_an_image_and_needs_two_images():
    student, teacher = draw()
    shifted = losses.dist(student + np.arange(6, dtype=np.float32)[:, None], teacher - 50.0, 4.0)
    np.testing.assert_allclose(shifted, losses.dist(student, teacher, 4.0), rtol=1e-4)
    np.testing.assert_allclose(losses.dist(teacher, teacher, 4.0), 0.0, atol=1e-4)
    with pytest.raises(ValueError, match="dist compares the images of a batch.*a batch of 1"):
        losses.dist(student[:1], teacher[:1], 4.0)


OTHERS = {
    "dkd": lambda student, teacher, temperature: losses.dkd(student, teacher, [0, 1, 2, 3], temperature),
    "standardized_kd": losses.standardized_kd,
    "dist": losses.dist,
}


@pytest.mark.parametrize("name", list(OTHERS))
@pytest.mark.parametrize("temperature", [0.5, 4.0, 20.0])
@pytest.mark.parametrize("kind", list(HUGE))
def test_the_other_losses_are_finite_for_huge_and_constant_logits(name, kind, temperature):
    student, teacher = HUGE[kind]
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = OTHERS[name](student, teacher, temperature)
    assert np.isfinite(loss.numpy()).all() and np.isfinite(tape.gradient(loss, student).numpy()).all()


@pytest.mark.parametrize("name", list(OTHERS))
def test_the_other_losses_compute_in_float32_and_check_what_they_are_given(name):
    student, teacher = draw(batch=4)
    assert OTHERS[name](tf.cast(student, "float16"), tf.cast(teacher, "bfloat16"), 4.0).dtype == tf.float32
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        OTHERS[name](student, teacher, 0.0)
    with pytest.raises(ValueError, match="43 student logits and 10"):
        OTHERS[name](student, teacher[:, :10], 4.0)
    with pytest.raises(ValueError, match="student_logits"):
        OTHERS[name](student[0], teacher, 4.0)


def test_a_loss_is_found_by_name_and_a_function_is_taken_as_it_is():
    assert losses.get("kd") is losses.kd
    assert losses.get(reference) is reference
    with pytest.raises(ValueError, match="'kl'.*kd"):
        losses.get("kl")
