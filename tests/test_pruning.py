"""Tests of kd_lib.pruning: a smaller network that answers as the large one would without those channels."""

import keras
import numpy as np
import pytest
from keras import layers

from kd_lib import Distiller, evaluation, models, pruning
from kd_lib.keys import describe_model


def scattered(model, seed=0):
    """Give BatchNorm scales, shifts and statistics of all sizes, as after a training."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean = generator.normal(0, 1, (3, layer.gamma.shape[0]))
            layer.set_weights([gamma, beta, mean, generator.uniform(0.5, 2, gamma.shape)])
    return model


def student(width=0.25, seed=0):
    return scattered(keras.utils.set_random_seed(seed) or models.student(7, 16, width=width), seed)


def images(count=8, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.float32)


def without(model, fraction):
    """The original with γ and β of the pruned channels zeroed: what `prune_channels` promises to equal."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    norms = [layer for layer in copy.layers if isinstance(layer, layers.BatchNormalization)]
    everything = np.sort(np.concatenate([np.abs(np.array(norm.gamma)) for norm in norms]))
    gone = everything[: round(fraction * len(everything))]
    for norm in norms:
        gamma, beta, *statistics = norm.get_weights()
        drop = np.isin(np.abs(gamma), gone) & (np.abs(gamma) < np.abs(gamma).max())
        norm.set_weights([np.where(drop, 0, gamma), np.where(drop, 0, beta), *statistics])
    return copy


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("width", [0.125, 0.25])
def test_the_smaller_network_answers_like_the_large_one_with_those_channels_zeroed(fraction, width):
    model = student(width)
    pruned = pruning.prune_channels(model, fraction)
    expected = without(model, fraction).predict(images(), verbose=0)
    np.testing.assert_allclose(pruned.predict(images(), verbose=0), expected, rtol=1e-4, atol=1e-4)


def test_it_is_smaller_everywhere_and_no_layer_is_emptied():
    model = student()
    sizes = [model, *(pruning.prune_channels(model, fraction) for fraction in (0.3, 0.6, 0.99))]
    for count in (evaluation.count_params, evaluation.count_macs):
        counts = [count(size) for size in sizes]
        assert counts == sorted(counts, reverse=True) and len(set(counts)) == 4
    channels = [layer.filters for layer in sizes[-1].layers if isinstance(layer, layers.Conv2D)]
    assert channels == [1] * 5
    assert sum(layer.filters for layer in sizes[2].layers if isinstance(layer, layers.Conv2D)) == round(0.4 * 160)


def test_of_equal_scales_no_more_than_the_fraction_goes():
    pruned = pruning.prune_channels(models.student(7, 16), 0.1)  # never trained: every scale is 1
    kept = [layer.filters for layer in pruned.layers if isinstance(layer, layers.Conv2D)]
    assert sum(kept) == round(0.9 * 640) and all(
        count >= 0.89 * full for count, full in zip(kept, [64, 64, 128, 128, 256], strict=True)
    )


def test_the_original_is_left_as_it_was():
    model = student()
    before = model.get_weights()
    pruned = pruning.prune_channels(model, 0.5)
    for layer in pruned.layers:
        layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_penalty_ends_with_the_pruning():
    pruned = pruning.prune_channels(pruning.sparse(student(), 0.01), 0.5)
    assert not pruned.losses and pruned.was_trained


def test_a_pruned_network_trains_is_saved_and_pruned_again(tmp_path):
    pruned = pruning.prune_channels(student(), 0.5)
    pruned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(pruned.train_on_batch(images(), np.arange(8) % 7))
    pruned.save(tmp_path / "pruned.keras")
    again = keras.models.load_model(tmp_path / "pruned.keras")
    np.testing.assert_allclose(again.predict(images(), verbose=0), pruned.predict(images(), verbose=0), rtol=1e-5)
    assert evaluation.count_params(pruning.prune_channels(again, 0.5)) < evaluation.count_params(again)


def chain(*middle, end=None):
    inputs = layers.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(inputs))
    for layer in middle:
        x = layer(x)
    return scattered(keras.Model(inputs, (end or layers.Dense(3))(x)))


@pytest.mark.parametrize(
    "middle",
    [
        lambda: [layers.ReLU(), layers.GlobalAveragePooling2D()],
        lambda: [layers.Activation("tanh"), layers.MaxPooling2D(2), layers.Flatten()],
        lambda: [layers.LeakyReLU(), layers.Conv2D(4, 3, strides=2, use_bias=False), layers.GlobalMaxPooling2D()],
        lambda: [
            layers.Activation("gelu"),
            layers.Flatten(),
            layers.Dense(5),
            layers.BatchNormalization(),
            layers.Activation("sigmoid"),
        ],
        lambda: [layers.ReLU(), layers.ZeroPadding2D(1), layers.AveragePooling2D(2), layers.Flatten()],
    ],
    ids=["global pooling", "tanh", "bare convolution", "hidden dense", "padding"],
)
def test_other_plain_chains_can_be_pruned(middle):
    model = chain(*middle())
    pruned = pruning.prune_channels(model, 0.4)
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    gamma, beta, *statistics = norm.get_weights()
    drop = np.abs(gamma) <= np.sort(np.abs(gamma))[1]
    norm.set_weights([np.where(drop, 0, gamma), np.where(drop, 0, beta), *statistics])
    x = images(size=8)
    np.testing.assert_allclose(pruned.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-4)
    assert next(layer for layer in pruned.layers if isinstance(layer, layers.Conv2D)).filters == 4


def test_the_channels_that_are_the_answers_stay():
    inputs = layers.Input((8, 8, 3))
    x = inputs
    for channels in (6, 5):
        x = layers.BatchNormalization()(layers.Conv2D(channels, 3, padding="same")(x))
    model = scattered(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    pruned = pruning.prune_channels(model, 0.5)
    assert pruned.output_shape == (None, 5) and pruned.layers[1].filters == 3


def skip():
    inputs = layers.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(inputs))
    x = layers.Add(name="skip")([inputs, x])
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def chain_of(last):
    inputs = layers.Input((8, 8, 3))
    shared = layers.ReLU(name="shared")
    x = shared(layers.BatchNormalization()(layers.Conv2D(3, 3)(inputs)))
    x = layers.Dense(3, name="logits")(layers.Flatten()(x))
    return keras.Model(inputs, shared(x) if last == "shared" else x * 10.0)


def other_axis():
    inputs = layers.Input((8, 8, 3))
    x = layers.BatchNormalization(axis=1, name="n")(layers.Conv2D(3, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def distiller():
    network = chain_of("multiplied")
    return Distiller(network, keras.models.clone_model(network))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: chain_of("shared"), "used in two places"),
        (lambda: chain_of("multiplied"), "after its last layer, 'logits'"),
        (other_axis, "'n' of .* the last axis"),
        (distiller, "distiller.student"),
        (lambda: chain(layers.Activation("log_softmax", name="s"), layers.Flatten()), "'s' of .* 0 into 0"),
        (skip, "Layer 'skip' of .* skip connection"),
        (lambda: models.teacher(5, 16, stream_width=2, downsample=True), "Layer 'stage1_cell1_.*' of .* branch"),
        (lambda: chain(layers.Activation("sigmoid", name="s"), layers.Flatten()), "'s' of .* does not turn 0 into 0"),
        (lambda: chain(layers.LayerNormalization(name="n"), layers.Flatten()), r"'n' \(LayerNormalization\)"),
        (lambda: chain(layers.ReLU(negative_slope=0.5, threshold=1.0, name="r"), layers.Flatten()), "'r' .* 0 into 0"),
        (lambda: chain(layers.ReLU(), layers.BatchNormalization(name="n"), layers.Flatten()), r"'n' \(BatchNorm"),
        (lambda: chain(layers.Rescaling(1.0, offset=1.0, name="n"), layers.Flatten()), r"'n' \(Rescaling\)"),
        (lambda: chain(layers.Reshape((-1,), name="n")), r"'n' \(Reshape\)"),
        (lambda: keras.Sequential([layers.Input((4,)), layers.Dense(3)]), "nothing can be pruned"),
    ],
)
def test_what_cannot_be_pruned_is_named(model, message):
    with pytest.raises(ValueError, match=message):
        pruning.prune_channels(model(), 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction must lie in \[0, 1\)"):
        pruning.prune_channels(student(), fraction)


# Sparse training


def test_the_penalty_is_that_of_the_paper_and_enters_the_key():
    model = student()
    sparse = pruning.sparse(model, 0.01)
    gammas = [layer.gamma for layer in sparse.layers if isinstance(layer, layers.BatchNormalization)]
    assert sum(map(float, sparse.losses)) == pytest.approx(
        0.01 * sum(np.abs(gamma).sum() for gamma in gammas), rel=1e-5
    )
    np.testing.assert_array_equal(sparse.predict(images(), verbose=0), model.predict(images(), verbose=0))
    assert describe_model(sparse) != describe_model(model) == describe_model(pruning.sparse(model, 0.0))


def test_training_with_the_penalty_makes_scales_smaller():
    ends = []
    for strength in (0.0, 0.05):
        model = pruning.sparse(student(), strength)
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(images(), np.arange(8) % 7, epochs=10, verbose=0)
        norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
        ends.append(sum(float(np.abs(norm.gamma).sum()) for norm in norms))
    assert ends[1] < ends[0] - 1


def test_sparse_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="strength must be a finite number"):
        pruning.sparse(student(), -1.0)
    with pytest.raises(ValueError, match="has no BatchNormalization layer"):
        pruning.sparse(keras.Sequential([layers.Input((4,)), layers.Dense(3)]))
