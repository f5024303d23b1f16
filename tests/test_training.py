"""Tests of kd_lib.training: nothing long is done twice, nothing finished is lost, the recipe does what Config says."""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import keras
import numpy as np
import pytest
from keras import layers

import kd_lib
from kd_lib import Distiller, artifacts, cache, checkpoint, course, feeding, recipe, training
from kd_lib.datasets import Dataset, Split
from kd_lib.recipe import SmoothedCrossentropy
from kd_lib.training import Config, fit_or_load, seeded

CLASSES = 3
CONFIG = Config(epochs=2, batch_size=20, learning_rate=0.05, views=None)


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Steps run eagerly: tracing a graph takes longer than the few steps of a test. A test with a subprocess traces."""
    compile_it = Distiller.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Distiller, "compile", lambda self, *args, **options: compile_it(self, *args, run_eagerly=True, **options)
        )
        patch.setattr(artifacts, "SHIPPED", ())
        yield


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def first_time(quick, tmp_path_factory):
    """A Run that was trained, and the KD_HOME that it left."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_HOME", str(folder))
        return train(), folder


@pytest.fixture
def trained(first_time, home):
    """The same Run, in a KD_HOME of the test's own."""
    run, folder = first_time
    shutil.copytree(folder, home)
    return run


@pytest.fixture
def trained_history(first_time):
    """The history of that Run, which was not interrupted."""
    return first_time[0].history


@pytest.fixture(scope="module")
def interruption(quick, tmp_path_factory):
    """The KD_HOME of a training of two epochs that was stopped after the first."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_HOME", str(folder))
        patch.setattr(checkpoint.Checkpoint, "on_epoch_begin", lambda self, epoch, logs=None: stop_at(self, epoch, 1))
        with pytest.raises(KeyboardInterrupt):
            train()
    return folder


def stop_at(checkpoint, epoch, last):
    checkpoint.started = 0.0
    if epoch == last:
        raise KeyboardInterrupt


@pytest.fixture
def interrupted(interruption, home):
    """That KD_HOME, for the test to change."""
    shutil.copytree(interruption, home)


def split(count, size=8, seed=0):
    """Three classes that differ in brightness."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    images = generator.integers(0, 60, (count, size, size, 3)) + 70 * labels[:, None, None, None]
    ids = np.array([f"{seed}-{number}" for number in range(count)])
    return Split(images.astype(np.uint8), labels, np.arange(count, dtype=np.int32), ids)


def tiny(size=8, **parts):
    parts = {"train": split(40, size), "validation": split(9, size, 1), "test": split(9, size, 2)} | parts
    return Dataset("tiny", ("a", "b", "c"), size, **parts)


def network(seed=0, size=8, classes=CLASSES, rate=0.2, name="network", hidden=8):
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((size, size, 3), name="image")
    x = layers.AveragePooling2D(2, name="pool")(layers.Rescaling(1 / 128, -1.0, name="normalize")(inputs))
    x = layers.Dense(hidden, name="hidden")(layers.Flatten(name="flatten")(x))
    x = layers.ReLU(name="relu")(layers.BatchNormalization(momentum=0.9, name="norm")(x))
    x = layers.Dropout(rate, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name=name)


def train(model=None, config=CONFIG, dataset=None, name="student", **changes):
    model = model if model is not None else network()
    return fit_or_load(name, model, dataset or tiny(), dataclasses.replace(config, **changes), progress=False)


def epochs_begun(monkeypatch):
    """Return a list that grows by the number of each epoch that begins from here on."""
    begun = []
    original = checkpoint.Checkpoint.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        begun.append(epoch)
        original(self, epoch, logs)

    monkeypatch.setattr(checkpoint.Checkpoint, "on_epoch_begin", on_epoch_begin)
    return begun


def meanwhile(monkeypatch, other_process):
    """Let `other_process` run while a training waits for its folder."""
    original = training.lock

    @contextlib.contextmanager
    def lock(folder):
        monkeypatch.setattr(training, "lock", original)
        other_process()
        with original(folder):
            yield

    monkeypatch.setattr(training, "lock", lock)


def files(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file())


# Not twice


def test_two_processes_do_not_train_the_same_network(monkeypatch):
    begun = epochs_begun(monkeypatch)
    meanwhile(monkeypatch, lambda: train(epochs=1))
    run = train(epochs=1)
    assert run.loaded and begun == [0]


def test_the_second_time_the_result_is_loaded_and_nothing_is_trained(trained, monkeypatch, home):
    begun = epochs_begun(monkeypatch)
    second = train(network(seed=9))  # whatever its initial weights: the key stands for the seed
    assert not trained.loaded and second.loaded and not begun
    assert (second.key, second.history, second.seconds) == (trained.key, trained.history, trained.seconds)
    for one, other in zip(trained.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert files(home) == ["architecture.json", "config.json", "history.json", "weights.npz"]


def test_another_configuration_and_another_network_are_trained(trained, monkeypatch):
    begun = epochs_begun(monkeypatch)
    assert not train(learning_rate=0.01, epochs=1).loaded and not train(network(rate=0.3), epochs=1).loaded
    assert begun == [0, 0]


def test_an_artifact_that_was_damaged_is_trained_again_with_a_warning(trained, home):
    (path,) = home.rglob("weights.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.warns(UserWarning, match="corrupt.*made again"):
        second = train()
    assert not second.loaded and second.history["loss"] == pytest.approx(trained.history["loss"], rel=1e-3)
    assert train().loaded


def test_the_weights_returned_are_those_kept_rounded_to_float16_and_give_the_final_accuracy(trained):
    for value in trained.model.get_weights():
        np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32))
    validation = tiny().validation
    answers = np.argmax(trained.model.predict(validation.images, verbose=0), axis=1)
    assert trained.history["final_val_accuracy"] == pytest.approx([np.mean(answers == validation.labels)])


def test_a_run_of_a_sweep_keeps_its_history_alone(home):
    run = train(keep_weights=False, epochs=1)
    assert run.model is None and len(run.history["val_accuracy"]) == 1
    assert "weights.npz" not in files(home)
    again = train(keep_weights=False, epochs=1)
    assert again.loaded and again.model is None and again.history == run.history


# Not lost

CHILD = """
import os, signal, sys
sys.path[:0] = sys.argv[2:4]
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
import test_training as t
artifacts, checkpoint = t.artifacts, t.checkpoint
artifacts.SHIPPED = ()

def run(kill_in_epoch=None):
    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == kill_in_epoch and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    checkpoint.Checkpoint.on_train_batch_end = on_train_batch_end
    distiller = t.Distiller(t.network(), t.network(seed=1, name="teacher"), alpha=0.3)
    config = t.Config(epochs=4, batch_size=10, learning_rate=0.05, views=3, ema=0.8, label_smoothing=0.1, balance=0.5)
    found = t.fit_or_load("student", distiller, t.tiny(), config)
    return found.history, [value.tolist() for value in found.model.get_weights()]

if sys.argv[1] == "killed":
    run(kill_in_epoch=2)
resumed = run()
os.environ["KD_HOME"] += "-other"
uninterrupted = run()
assert resumed == uninterrupted, (resumed[0], uninterrupted[0])
print("the same")
"""


def test_a_training_killed_in_its_third_epoch_goes_on_and_ends_as_if_nothing_had_happened(home):
    folder = Path(__file__).parent

    def child(what):
        command = [sys.executable, "-c", CHILD, what, str(folder), str(folder.parent)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, env={**os.environ, "KD_HOME": str(home)}
        )

    killed = child("killed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    (state,) = home.rglob("checkpoint.json")
    assert json.loads(state.read_text())["epoch"] == 2
    resumed = child("resumed")
    assert resumed.stdout.strip().endswith("the same"), resumed.stderr[-2000:]
    assert resumed.stdout.count("goes on after epoch 2") == 1
    assert not list(home.rglob("checkpoint*")), "what is finished needs no checkpoint"


def test_a_disk_that_is_full_at_a_checkpoint_keeps_the_one_before(monkeypatch, home):
    original, replaced = os.replace, []

    def replace(source, target):
        replaced.append(Path(target).name)
        if len(replaced) > 2:  # weights and state of the first epoch are written
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="checkpoint-0002.*No space left.*same command again"):
        train(epochs=3)
    assert files(home) == ["checkpoint-0001.weights.h5", "checkpoint.json"]
    monkeypatch.setattr(os, "replace", original)
    begun = epochs_begun(monkeypatch)
    run = train(epochs=3)
    assert begun == [1, 2] and len(run.history["loss"]) == 3


def test_a_disk_that_is_full_at_the_end_costs_no_training(monkeypatch, home):
    original = artifacts.save_weights

    def full(model, path):
        raise OSError(errno.ENOSPC, f"Could not write {path}: No space left on device")

    monkeypatch.setattr(artifacts, "save_weights", full)
    with pytest.raises(OSError, match="weights.npz: No space left"):
        train(ema=0.5)
    monkeypatch.setattr(artifacts, "save_weights", original)
    begun = epochs_begun(monkeypatch)
    run = train(network(seed=5), ema=0.5)
    assert not begun and not run.loaded and len(run.history["loss"]) == 2
    whole = train(ema=0.5, name="elsewhere")
    for one, other in zip(run.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3)
    assert run.history["final_val_accuracy"] == whole.history["final_val_accuracy"]


def test_a_training_that_was_stopped_goes_on_after_its_last_epoch(interrupted, trained_history, monkeypatch, home):
    begun = epochs_begun(monkeypatch)
    run = train(network(seed=5))
    assert begun == [1] and not run.loaded
    assert run.history["loss"] == pytest.approx(trained_history["loss"], rel=1e-3)
    assert not list(home.rglob("checkpoint*"))


@pytest.mark.parametrize("damage", ["weights", "state", "no weights"])
def test_a_damaged_checkpoint_is_reported_and_training_starts_anew(damage, interrupted, monkeypatch, home, capsys):
    (state,), (weights,) = home.rglob("checkpoint.json"), home.rglob("*.weights.h5")
    if damage == "state":
        state.write_text('{"epo')
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:3000])
    else:
        weights.unlink()
    begun = epochs_begun(monkeypatch)
    run = train()
    assert "checkpoint cannot be used" in capsys.readouterr().out
    assert begun == [0, 1] and np.isfinite(run.history["loss"]).all()
    assert not list(home.rglob("checkpoint*"))


def test_a_checkpoint_that_cannot_be_read_now_is_kept_for_later(interrupted, monkeypatch, home):
    before = files(home)
    with monkeypatch.context() as patch:
        patch.setattr(Distiller, "load_weights", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        with pytest.raises(OSError, match="Too many open files"):
            train(network(seed=5))
    assert files(home) == before
    begun = epochs_begun(monkeypatch)
    train(network(seed=5))
    assert begun == [1]


def test_a_training_with_a_projector_goes_on_as_if_it_had_not_been_stopped(monkeypatch, home):
    def distiller():
        return Distiller(network(), network(seed=1, hidden=6), alpha=0.5, features=[("hidden", "hidden", "hint")])

    whole = train(distiller(), name="whole", views="online")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint.Checkpoint, "on_epoch_begin", lambda self, epoch, logs=None: stop_at(self, epoch, 1))
        train(distiller(), name="stopped", views="online")
    begun = epochs_begun(monkeypatch)
    found = train(distiller(), name="stopped", views="online")
    assert begun == [1] and found.history == whole.history


def test_a_checkpoint_of_a_distilled_student_holds_no_teacher(monkeypatch, home):
    with monkeypatch.context() as patch:
        patch.setattr(artifacts.Artifact, "save", lambda *arguments: 1 / 0)
        for teacher in (network(seed=1), None):
            with pytest.raises(ZeroDivisionError):
                train(Distiller(network(), teacher, alpha=0.5 if teacher else 1.0), epochs=1)
    sizes = {path.stat().st_size for path in home.rglob("*.weights.h5")}
    assert len(sizes) == 1


# Bad input


def loose(**parts):
    """A dataset-like object that does not check itself."""
    good = tiny()
    values = {"name": "loose", "fingerprint": {"name": "loose"}, "train": good.train, "validation": good.validation}
    return SimpleNamespace(**(values | parts))


def with_labels(part, labels):
    return Split(part.images, np.resize(labels, len(part)).astype(np.int32), part.groups, part.ids)


@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize(("labels", "text"), [([0, 3], "from 0 to 3"), ([-1, 2], "from -1 to 2")])
def test_labels_that_are_no_class_of_the_network_are_refused_before_training(part, labels, text):
    key = "train" if part == "training" else "validation"
    dataset = loose(**{key: with_labels(getattr(tiny(), key), labels)})
    with pytest.raises(ValueError, match=f"0..2 for network.*Received {part} labels {text}"):
        train(dataset=dataset)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_empty_split_is_named(part):
    empty = getattr(tiny(), part).subset(slice(0, 0))
    with pytest.raises(ValueError, match=f"The {part}.* split of loose is empty"):
        train(dataset=loose(**{part: empty}))


def test_a_loss_that_is_no_number_stops_training_and_names_the_learning_rate(home):
    with pytest.raises(ValueError, match=r"step \d+ of epoch \d, at a .* Try a lower learning rate than 1e\+30"):
        train(epochs=3, learning_rate=1e30, warmup_epochs=0)
    assert "history.json" not in files(home)


def test_a_loss_that_becomes_no_number_later_names_the_last_good_state(home, monkeypatch):
    original = checkpoint.Checkpoint.on_epoch_begin

    def poison(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 1:
            self.model.student.weights[0].assign(np.full(self.model.student.weights[0].shape, np.nan))

    monkeypatch.setattr(checkpoint.Checkpoint, "on_epoch_begin", poison)
    with pytest.raises(ValueError, match=r"step 1 of epoch 2, .*last good state is .*checkpoint-0001.weights.h5"):
        train(epochs=3)


def test_a_network_that_is_spoilt_by_the_very_last_step_is_not_kept(home, monkeypatch):
    original = checkpoint.Checkpoint.on_epoch_end

    def poison(self, epoch, logs=None):
        if epoch == 2:
            self.model.student.weights[0].assign(np.full(self.model.student.weights[0].shape, np.nan))
        original(self, epoch, logs)

    monkeypatch.setattr(checkpoint.Checkpoint, "on_epoch_end", poison)
    with pytest.raises(ValueError, match=r"of epoch 3, .*last good state is .*checkpoint-0002.weights.h5"):
        train(epochs=3)
    assert "history.json" not in files(home)


def test_numbers_of_numpy_are_numbers():
    config = Config(epochs=np.int64(2), batch_size=np.int32(4), views=np.int64(3))
    assert config == Config(epochs=2, batch_size=4, views=3) and json.dumps(config.facts())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("views", 0),
        ("views", "all"),
        ("views", 2.0),
        ("views", True),
        ("seed", -1),
        ("view_seed", 1.5),
        ("ema", 1.0),
        ("label_smoothing", -0.1),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_value(field, value):
    with pytest.raises(ValueError, match=f"{field}.*{value}"):
        Config(**({"epochs": 1} | {field: value}))


# The recipe


def test_the_same_seed_gives_the_same_initial_weights():
    one, same, other = (seeded(seed, network, seed) for seed in (3, 3, 4))
    for left, right in zip(one.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize("views", [3, "online", None])
def test_every_kind_of_views_trains(views):
    run = train(views=views, epochs=3)
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "label_loss"} <= set(run.history)
    assert all(len(column) == 3 for name, column in run.history.items() if name != "final_val_accuracy")
    assert run.history["loss"][-1] < run.history["loss"][0]


@pytest.mark.parametrize("views", [2, "online"])
def test_a_distiller_is_distilled_with_cached_or_with_live_answers(views, home, monkeypatch):
    student, teacher = network(), network(seed=1, name="teacher")
    before = teacher.get_weights()
    asked = []
    original = cache.cache_logits
    monkeypatch.setattr(cache, "cache_logits", lambda *a, **k: asked.append(1) or original(*a, **k))
    run = train(Distiller(student, teacher, alpha=0.5), views=views)
    assert run.model is student and {"distillation_loss", "label_loss"} <= set(run.history)
    assert len(asked) == (views != "online")
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert train(Distiller(network(), teacher, alpha=0.5), views=views).loaded


def test_mixtures_are_learned_from_the_teacher_without_labels(home):
    teacher = network(seed=1, name="teacher")
    run = train(Distiller(network(), teacher, alpha=0.0), views="online", mixup=0.4)
    assert "label_loss" not in run.history and "distillation_loss" in run.history and "val_accuracy" in run.history
    other = train(Distiller(network(), teacher, alpha=0.0), views="online")
    assert run.key != other.key


@pytest.mark.parametrize("with_teacher", [False, True, None])
def test_mixtures_without_a_teacher_or_with_fixed_views_are_refused(with_teacher, home):
    with pytest.raises(ValueError, match="mixup needs views" if with_teacher else "needs a distiller"):
        if with_teacher:
            train(Distiller(network(), network(seed=1)), views=2, mixup=0.4)
        elif with_teacher is None:
            train(Distiller(network(), network(seed=1), alpha=1.0), views="online", mixup=0.4)
        else:
            train(views="online", mixup=0.4)


def test_cached_and_live_answers_of_the_teacher_train_the_same_student():
    teacher = network(seed=1, name="teacher")
    cached = train(Distiller(network(), teacher), views=2, epochs=2)
    live = train(Distiller(network(), teacher), views="online", epochs=2)  # two epochs: the same two views
    assert cached.history["distillation_loss"] == pytest.approx(live.history["distillation_loss"], rel=5e-3)
    assert cached.history["loss"] == pytest.approx(live.history["loss"], rel=5e-3)


def test_alpha_1_with_a_teacher_is_the_plain_training(trained):
    distilled = train(Distiller(network(), network(seed=1, name="teacher"), alpha=1.0))
    assert trained.key != distilled.key and not distilled.loaded
    assert trained.history["loss"] == pytest.approx(distilled.history["loss"], rel=1e-4)
    assert trained.history["val_loss"] == pytest.approx(distilled.history["val_loss"], rel=1e-3)


def test_a_refit_trains_on_training_and_validation_images_together(monkeypatch):
    seen = []
    original = feeding.plan
    monkeypatch.setattr(
        feeding, "plan", lambda labels, **options: seen.append(len(labels)) or original(labels, **options)
    )
    train(epochs=1, refit=True)
    assert seen == [40 + 9]


def test_label_smoothing_spreads_a_share_of_the_label_over_all_classes():
    logits = np.random.default_rng(0).normal(size=(6, CLASSES)).astype(np.float32)
    labels = np.arange(6) % CLASSES
    target = np.eye(CLASSES)[labels] * 0.9 + 0.1 / CLASSES
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -(target * log_probabilities).sum(axis=1).mean()
    assert float(SmoothedCrossentropy(0.1)(labels, logits)) == pytest.approx(expected, rel=1e-5)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert float(SmoothedCrossentropy(0.0)(labels, logits)) == pytest.approx(float(plain), rel=1e-5)
    weights = np.array([1.0, 0, 0, 0, 0, 0])
    one = -(target * log_probabilities).sum(axis=1)[0] / 6
    assert float(SmoothedCrossentropy(0.1)(labels, logits, weights)) == pytest.approx(one, rel=1e-5)


def test_the_learning_rate_warms_up_then_falls_to_zero_and_biases_are_not_decayed():
    distiller = Distiller(network(), alpha=1.0)
    recipe.compile_for(distiller, dataclasses.replace(CONFIG, epochs=5, warmup_epochs=1), 10)
    schedule = distiller.optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 30, 50)]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.025, 0.0], abs=1e-4)
    recipe.compile_for(distiller, dataclasses.replace(CONFIG, epochs=5, warmup_epochs=1, decay="none"), 10)
    constant = distiller.optimizer._learning_rate
    assert [float(constant(step)) for step in (0, 5, 10, 30, 50)] == pytest.approx([0.0, 0.025, *[0.05] * 3])
    assert "decay" not in CONFIG.facts() and dataclasses.replace(CONFIG, decay="none").facts()["decay"] == "none"
    distiller.optimizer.build(distiller.trainable_variables)
    decayed = [
        variable.path for variable in distiller.trainable_variables if distiller.optimizer._use_weight_decay(variable)
    ]
    assert sorted(decayed) == ["hidden/kernel", "logits/kernel"]


def test_averaged_weights_get_batchnorm_statistics_of_their_own():
    run = train(ema=0.7, epochs=3, batch_size=40)
    inputs = keras.Model(run.model.input, run.model.get_layer("hidden").output)
    maps = inputs(tiny().train.images.astype(np.float32)).numpy()
    norm = run.model.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, maps.mean(axis=0), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(norm.moving_variance, maps.var(axis=0), rtol=0.05, atol=0.02)
    assert norm.momentum == 0.9
    last = train(epochs=3, batch_size=40)
    assert not np.allclose(run.model.get_layer("hidden").kernel, last.model.get_layer("hidden").kernel, atol=1e-3)


def test_a_student_with_a_smaller_input_than_the_data_is_trained_too():
    run = train(Distiller(network(), network(seed=1, size=16, name="teacher")), dataset=tiny(size=16), ema=0.5)
    assert run.model.input_shape == (None, 8, 8, 3) and np.isfinite(run.history["loss"]).all()


def test_one_line_tells_how_far_the_training_is(trained, capsys):
    fit_or_load("other", network(), tiny(), CONFIG)
    lines = capsys.readouterr().out.replace("\r", "\n").splitlines()
    told = [line.strip() for line in lines if line.startswith("other: epoch")]
    assert len(told) == 2 and told[0].startswith("other: epoch 1/2, loss ") and "validation" in told[1]
    assert told[1].endswith("0 s left")
    fit_or_load("student", network(), tiny(), CONFIG)
    assert "student: loaded; its training took" in capsys.readouterr().out
    train()
    assert not capsys.readouterr().out


def test_a_trained_network_is_not_trained_on_as_if_it_were_new(home):
    model = network()
    train(model)
    with pytest.raises(ValueError, match="trained before.*seeded"):
        train(model, epochs=3)
    assert train(model).loaded, "the same again is loaded"
    shutil.rmtree(home)
    with pytest.raises(ValueError, match="trained before"):
        train(model)
    assert not train(model, epochs=3, start="the first run").loaded


def test_a_network_that_learned_elsewhere_is_not_taken_for_a_new_one(home):
    model = network()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.fit(split(40).images, split(40).labels, verbose=0)
    with pytest.raises(ValueError, match="network was trained before"):
        train(model)
    assert train(model, start="a fit of my own").model is model


def test_what_a_network_starts_from_enters_the_key(home):
    keys = []
    for start in (None, "imagenet", "signs"):
        model = network()
        if start:
            model.starts_from = start
        keys.append(train(model).key)
    assert len(set(keys)) == 3


def test_changed_pixels_are_other_data(home):
    brighter = Split(255 - tiny().train.images, *(getattr(tiny().train, key) for key in ("labels", "groups", "ids")))
    assert train().key == train().key != train(dataset=tiny(train=brighter)).key


def test_the_weights_that_are_kept_are_the_weights_that_are_measured(home):
    data = tiny()
    run = train(dataset=data)
    for value in run.model.get_weights():
        np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32))
    expected = kd_lib.evaluate(run.model, data.validation).accuracy
    assert run.history["final_val_accuracy"] == pytest.approx([expected], abs=1e-6)


def test_a_checkpoint_that_breaks_off_half_read_leaves_a_fresh_start(home, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint.Checkpoint, "on_epoch_begin", lambda self, epoch, logs=None: stop_at(self, epoch, 1))
    with pytest.raises(KeyboardInterrupt):
        train()
    monkeypatch.undo()
    monkeypatch.setenv("KD_HOME", str(home))

    def half_read(self, *arguments):
        self.student.set_weights([value + 1 for value in self.student.get_weights()])
        raise ValueError("another layout")

    monkeypatch.setattr(Distiller, "load_weights", half_read)
    found = train()
    assert "training starts anew" in capsys.readouterr().out
    monkeypatch.setenv("KD_HOME", str(home) + "-other")
    for value, expected in zip(found.model.get_weights(), train().model.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"learning_rate": -1.0}, {"balance": float("nan")}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Config(epochs=1, **wrong)


def test_a_distiller_that_lacks_its_teacher_is_refused_before_anything_is_loaded(home):
    train(network())
    with pytest.raises(ValueError, match="needs a teacher"):
        train(Distiller(network(), alpha=0.1))


def test_what_a_network_was_trained_with_is_kept_and_goes_into_its_row(home, monkeypatch):
    there = {"device": "another machine", "backend": "tensorflow", "commit": "abc", "versions": {"python": "3.12"}}
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(training, "environment", lambda: there)
        assert train().environment == there
    run = train()
    assert run.loaded and run.environment == there and run.distiller is None
    report = kd_lib.evaluate(run.model, tiny().test)
    scale = kd_lib.Scale.named("smoke", home_folder=home)
    fields = {"model": "student", "method": "plain", "bytes": 1, "command": "a test"}
    row = course.row_of(run, report, tiny(), scale, **fields)
    assert there.items() <= row.items()
