"""Tests of kd_lib.quantization: training rounds as the 8-bit file will."""

import keras
import numpy as np
import pytest
import small
from keras import layers, ops

from kd_lib import Distiller, evaluation, models, quantization
from kd_lib.keys import describe_model
from kd_lib.models import ContrastNormalization
from kd_lib.quantization import FakeQuantize, QuantizedContrastNormalization, quantize_aware


def test_rounding_hardly_changes_the_answers(student, patches):
    quantized = quantize_aware(student, patches.images[:100])
    expected, found = (model.predict(patches.images, verbose=0) for model in (student, quantized))
    assert (expected.argmax(1) == found.argmax(1)).mean() > 0.98
    assert 0 < np.abs(expected - found).mean() < 0.05 * expected.std()
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in quantized.layers)
    assert quantized.output_shape == student.output_shape and quantized.name == "student_0_125_quantized"


def test_the_original_is_left_as_it_was(student, patches):
    before = student.get_weights()
    quantized = quantize_aware(student, patches.images[:20])
    for layer in quantized.layers:
        layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    for old, new in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_activations_take_256_values_at_most_and_zero_is_one_of_them():
    x = np.linspace(-3, 7, 5000, dtype=np.float32)
    y = ops.convert_to_numpy(FakeQuantize(-1.0, 5.0)(x))
    assert len(np.unique(y)) == 256 and 0 in y
    inside = (x > -0.99) & (x < 4.99)
    assert np.abs(y - x)[inside].max() <= 6 / 255 / 2 + 1e-5
    np.testing.assert_allclose([y.min(), y.max()], [-1, 5], atol=6 / 255)


def test_kernels_take_255_values_a_channel_each_by_its_own_largest_weight():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 40, 4)).astype(np.float32) * [1, 10, 100, 0]
    rounded = ops.convert_to_numpy(quantization._per_channel(ops.convert_to_tensor(kernel, "float32")))
    for channel, size in enumerate(np.abs(kernel).max(axis=(0, 1, 2))):
        steps = rounded[..., channel] / max(size / 127, 1e-9)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        assert np.abs(rounded - kernel)[..., channel].max() <= size / 127 / 2 * 1.001
    steps = ops.convert_to_numpy(quantization._per_tensor(ops.convert_to_tensor(kernel, "float32")))
    assert len(np.unique(steps)) <= 255 and np.abs(steps[..., 0]).max() < 5


def test_gradients_pass_as_if_nothing_had_been_rounded_but_not_where_it_clips():
    import tensorflow as tf

    x = tf.constant([-2.0, -0.5, 0.0, 1.234, 9.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ops.sum(FakeQuantize(-1.0, 5.0)(x) * [1.0, 2.0, 3.0, 4.0, 5.0])
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 2, 3, 4, 0])


def test_contrast_normalisation_in_steps_is_that_of_the_float_network():
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.float32)
    images[:20] = images[:20] * 0.1 + 30  # dark and hazy
    expected = ops.convert_to_numpy(ContrastNormalization()(images))
    steps = QuantizedContrastNormalization(**QuantizedContrastNormalization.ranges_of(images, 4.0))
    found = ops.convert_to_numpy(steps(images))
    difference = np.abs(found - expected).reshape(40, -1).mean(axis=1)
    # A hazy image spans few of the 256 grey levels; and 1 / deviation is coarse where the deviation is large.
    assert difference.max() < 0.15 and len(np.unique(found)) <= 256


def test_it_learns_from_a_teacher_like_any_student(student, patches):
    quantized = quantize_aware(student, patches.images[:100])
    distiller = Distiller(quantized, student, alpha=0.0, temperature=2.0)
    distiller.compile(keras.optimizers.Adam(1e-3))
    before = quantized.get_weights()
    history = distiller.fit(patches.images, patches.labels, epochs=3, batch_size=50, verbose=0).history
    assert history["distillation_loss"][-1] < history["distillation_loss"][0]
    assert all(np.any(old != new) for old, new in zip(before, quantized.get_weights(), strict=True))
    assert evaluation.evaluate(quantized, patches).accuracy > 0.98


def test_it_is_saved_and_loaded_and_has_one_key(student, patches, tmp_path):
    one, same = (quantize_aware(student, patches.images[:50]) for _ in range(2))
    assert describe_model(one) == describe_model(same)
    assert describe_model(one) != describe_model(quantize_aware(student, patches.images[:50] // 2))
    one.save(tmp_path / "quantized.keras")
    again = keras.models.load_model(tmp_path / "quantized.keras")
    x = patches.images[:10]
    np.testing.assert_array_equal(again.predict(x, verbose=0), one.predict(x, verbose=0))


def chain(*middle):
    x = inputs = layers.Input((8, 8, 3))
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize(
    "middle",
    [
        lambda: [layers.Conv2D(4, 3, strides=2, use_bias=False), layers.ReLU(), layers.GlobalMaxPooling2D()],
        lambda: [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.MaxPooling2D(2), layers.Dropout(0.5)],
        lambda: [layers.Flatten(), layers.Dense(6), layers.BatchNormalization(scale=False), layers.ReLU()],
        lambda: [layers.Conv2D(4, 1), layers.BatchNormalization(center=False), layers.GlobalAveragePooling2D()],
    ],
    ids=["strides", "no ReLU", "hidden dense", "global pooling"],
)
def test_other_plain_chains_can_be_quantised(middle):
    model = chain(*middle())
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 2, value.shape) for value in layer.get_weights()])
    x = generator.integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    expected, found = (each.predict(x, verbose=0) for each in (model, quantize_aware(model, x)))
    assert np.abs(found - expected).mean() < 0.1 * expected.std()


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (lambda: [layers.LayerNormalization(name="n")], r"'n' \(LayerNormalization\)"),
        (lambda: [layers.BatchNormalization(name="first")], r"'first' \(BatchNormalization\)"),
        (lambda: [layers.Conv2D(4, 3, activation="tanh", name="c")], "'c' .* activation"),
        (lambda: [layers.DepthwiseConv2D(3, name="d")], r"'d' \(DepthwiseConv2D\)"),
        (lambda: [layers.Conv2D(6, 3, groups=3, name="g")], "'g' .* groups"),
        (lambda: [layers.ReLU(negative_slope=0.2, name="r")], "'r' .* ReLU with a slope"),
        (lambda: [layers.ReLU(threshold=1.0, name="r")], "'r' .* ReLU with a slope"),
        (lambda: [layers.ReLU(max_value=40.0, name="r")], "'r' .* maximum other than 6"),
    ],
)
def test_what_cannot_be_quantised_is_named(middle, message):
    with pytest.raises(ValueError, match=message):
        quantize_aware(chain(*middle()), np.zeros((1, 8, 8, 3), np.uint8))


def test_branches_and_missing_images_are_refused(student):
    with pytest.raises(ValueError, match="branch.*only a plain chain can be quantised"):
        quantize_aware(models.teacher(5, 16, stream_width=2, downsample=True), np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="representative holds no image"):
        quantize_aware(student, np.zeros((0, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="the range must hold 0"):
        FakeQuantize(0.5, 1.0)


def test_fit_or_load_asks_what_its_weights_were(student, patches):
    from kd_lib.training import Config, fit_or_load

    dataset = small.dataset_of(patches)
    quantized = quantize_aware(student, patches.images[:50])
    with pytest.raises(ValueError, match="was trained before.*start="):
        fit_or_load("quantized", quantized, dataset, Config(epochs=1, views=None))
