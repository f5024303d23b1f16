"""The same losses and the same Distiller on the JAX backend: `make test-jax`, with two CPU devices."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("needs KERAS_BACKEND=jax (make test-jax)", allow_module_level=True)

import jax  # noqa: E402
from keras import layers  # noqa: E402

from kd_lib import Distiller, losses  # noqa: E402
from kd_lib.datasets import Split  # noqa: E402
from kd_lib.training import Config, fit_or_load  # noqa: E402

CLASSES = 5


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))


def network(seed=0, channels=4, norm=True):
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((8, 8, 3))
    x = layers.Rescaling(1 / 128, offset=-1.0)(inputs)
    x = layers.Conv2D(channels, 3, strides=2, padding="same", name="conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name="bn")(x) if norm else x
    x = layers.Flatten()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))


def images(count=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def labels(count=16, seed=1):
    return np.random.default_rng(seed).integers(0, CLASSES, count, dtype=np.int32)


def compiled(student, teacher=None, rate=0.1, **options):
    distiller = Distiller(student, teacher, **options)
    distiller.compile(keras.optimizers.SGD(rate))
    return distiller


def log_softmax(logits):
    logits = np.float64(logits) - np.max(logits, axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


# Losses


def test_kd_and_its_gradient_are_those_of_the_paper():
    student, teacher = np.random.default_rng(0).normal(0, 5, (2, 6, 43)).astype(np.float32)
    p, q = (np.exp(log_softmax(logits / 4.0)) for logits in (teacher, student))
    np.testing.assert_allclose(losses.kd(student, teacher, 4.0), 16 * (p * np.log(p / q)).sum(axis=1), rtol=1e-5)
    slope = jax.grad(lambda logits: losses.kd(logits, teacher, 4.0).sum())(student)
    np.testing.assert_allclose(slope, 4 * (q - p), atol=1e-5)


@pytest.mark.parametrize("name", ["kd", "standardized_kd", "dist", "dkd"])
def test_losses_on_logits_have_finite_gradients_under_jit(name):
    function = losses.LOSSES[name]
    truth = [np.arange(4)] if name == "dkd" else []
    for student in (np.zeros((4, 7)), np.full((4, 7), 1e4), np.eye(4, 7) * 1e4 - 5e3):
        teacher = np.random.default_rng(0).normal(0, 5, (4, 7))
        value, slope = jax.jit(jax.value_and_grad(lambda z, t=teacher: function(z, t, *truth, 2.0).sum()))(student)
        assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize("name", list(losses.FEATURE_LOSSES))
def test_losses_on_features_have_finite_gradients_under_jit(name):
    for student in (np.zeros((4, 3, 3, 2)), np.random.default_rng(1).normal(size=(4, 3, 3, 2))):
        teacher = np.random.default_rng(0).normal(size=(4, 3, 3, 2))
        loss = jax.jit(jax.value_and_grad(lambda f, t=teacher: losses.FEATURE_LOSSES[name](f, t).sum()))
        value, slope = loss(student)
        assert np.isfinite(value) and np.isfinite(slope).all()


# Distiller


def test_a_step_moves_the_head_by_the_mean_gradient_of_both_losses():
    student, teacher = network(norm=False), network(seed=1)
    before = [np.array(value) for value in teacher.get_weights()]
    bias = np.array(student.get_layer("logits").bias)
    given, wanted = student.predict(images(), verbose=0), teacher.predict(images(), verbose=0)
    p, q = (np.exp(log_softmax(logits / 3.0)) for logits in (wanted, given))
    label = np.exp(log_softmax(given)) - np.eye(CLASSES)[labels()]
    expected = bias - 0.1 * np.mean(0.3 * label + 0.7 * 3.0 * (q - p), axis=0)
    distiller = compiled(student, teacher, alpha=0.3, temperature=3.0)
    logs = distiller.train_on_batch(images(), labels(), return_dict=True)
    np.testing.assert_allclose(student.get_layer("logits").bias, expected, atol=1e-5)
    assert logs["distillation_loss"] == pytest.approx(np.mean(9 * (p * np.log(p / q)).sum(axis=1)), rel=1e-4)
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_evaluate_changes_nothing_and_shows_no_distillation_loss():
    distiller = compiled(network(), network(seed=1))
    distiller.train_on_batch(images(), labels())
    before = distiller.student.get_weights()
    logs = distiller.evaluate(images(), labels(), verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy", "label_loss"}
    for old, new in zip(before, distiller.student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_batchnorm_learns_its_statistics():
    distiller = compiled(network(), network(seed=1))
    distiller.train_on_batch(images(), labels())
    assert np.abs(distiller.student.get_layer("bn").moving_mean).max() > 0


def test_a_temperature_schedule_works_after_compiling():
    distiller = compiled(network(), network(seed=1), rate=0.0)
    values = []
    for temperature in (4.0, 1.0):
        distiller.temperature = temperature
        distiller.reset_metrics()
        values.append(distiller.train_on_batch(images(), labels(), return_dict=True)["distillation_loss"])
    assert values[0] != pytest.approx(values[1], rel=0.05)


def test_features_and_their_projector_learn():
    options = {"features": [("conv", "conv", "hint"), ("logits", "logits", "rkd")], "loss": {"kd": 1.0, "dist": 1.0}}
    distiller = compiled(network(), network(seed=1, channels=6), rate=0.01, **options)
    kernel = np.array(distiller.projectors[0].kernel)
    history = distiller.fit(images(), labels(), batch_size=16, epochs=5, verbose=0).history["distillation_loss"]
    assert history[-1] < history[0] and not np.allclose(kernel, distiller.projectors[0].kernel)


def test_cached_answers_and_several_teachers_train():
    y = {"label": labels(), "teacher_logits": network(seed=1).predict(images(), verbose=0)}
    cached, live = (compiled(network(), teacher) for teacher in (None, network(seed=1)))
    one = cached.train_on_batch(images(), y, return_dict=True)
    assert one == pytest.approx(live.train_on_batch(images(), labels(), return_dict=True), rel=1e-4)
    both = compiled(network(), [network(seed=1), network(seed=2)])
    assert np.isfinite(both.train_on_batch(images(), labels(), return_dict=True)["loss"])


# The recipe


def data_set():
    def split(count, seed):
        ids = np.array([str(i) for i in range(count)])
        return Split(images(count, seed), labels(count, seed), np.arange(count, dtype=np.int32), ids)

    return SimpleNamespace(
        name="tiny", train=split(48, 0), validation=split(16, 1), fingerprint={"name": "tiny"}, num_classes=CLASSES
    )


@pytest.mark.parametrize("views", [2, "online", None])
def test_the_recipe_trains_keeps_and_loads(views):
    config = Config(epochs=2, batch_size=16, views=views)
    data, teacher = data_set(), network(seed=1)
    run = fit_or_load("student", Distiller(network(), teacher), data, config, progress=False)
    again = fit_or_load("student", Distiller(network(), teacher), data, config, progress=False)
    assert len(run.history["loss"]) == 2 and again.loaded
    for old, new in zip(run.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_averaged_weights_and_mixtures_train():
    config = Config(epochs=2, batch_size=16, views="online", ema=0.9)
    data, teacher = data_set(), network(seed=1)
    assert np.isfinite(
        fit_or_load("a", Distiller(network(), teacher), data, config, progress=False).history["loss"]
    ).all()
    config = dataclasses.replace(config, mixup=0.4)
    run = fit_or_load("b", Distiller(network(), teacher, alpha=0.0), data, config, progress=False)
    assert np.isfinite(run.history["distillation_loss"]).all()


# Two devices


@pytest.mark.parametrize("loss", ["kd", "dist"])
@pytest.mark.parametrize("cached", [False, True])
def test_two_devices_make_the_update_of_one(cached, loss):
    assert len(jax.devices()) == 2, "make test-jax asks XLA for two CPU devices"
    y = labels()
    if cached:
        y = {"label": y, "teacher_logits": network(seed=1).predict(images(), verbose=0)}

    def trained():
        distiller = compiled(network(), None if cached else network(seed=1), loss=loss)
        distiller.fit(images(), y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        return distiller.student.get_weights()

    alone = trained()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]))
    try:
        together = trained()
    finally:
        keras.distribution.set_distribution(None)
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_network_that_answers_probabilities_is_refused(devices):
    whole = network()
    softmax = keras.Model(whole.inputs, layers.Lambda(lambda x: jax.nn.softmax(x))(whole.outputs[0]))
    spread = keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"])
    keras.distribution.set_distribution(spread if devices == 2 else None)
    try:
        with pytest.raises(ValueError, match="teacher .* answers probabilities"):
            Distiller(network(), softmax)
    finally:
        keras.distribution.set_distribution(None)


def test_settings_may_be_arrays_and_labels_are_checked():
    distiller = compiled(network(), network(seed=1), alpha=jax.numpy.array(0.5), temperature=np.array(2.0))
    distiller.alpha = distiller.alpha * 0.5
    with pytest.raises(ValueError, match="temperature.*positive.*-3.0"):
        distiller.temperature = distiller.temperature - 5
    assert (float(distiller.alpha), float(distiller.temperature)) == (0.25, 2.0)
    with pytest.raises(ValueError, match="Labels must lie in 0..4 .*training labels from 0 to 99"):
        distiller.fit(images(), jax.numpy.array(labels()).at[0].set(99).at[1].set(0), verbose=0)


def test_the_recipe_is_refused_on_two_devices():
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]))
    try:
        with pytest.raises(ValueError, match="fit_or_load trains on one device"):
            fit_or_load("student", network(), data_set(), Config(epochs=1, batch_size=8), progress=False)
    finally:
        keras.distribution.set_distribution(None)
