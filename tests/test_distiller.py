"""Tests of kd_lib.Distiller. The promises of the first half are each shown to be broken by a defective version."""

import functools
import re

import defective
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from kd_lib import Distiller, artifacts, losses, models
from kd_lib.recipe import SmoothedCrossentropy

CLASSES = 5
RATE = 0.5


class Counting(layers.Layer):
    """Passes its input on and counts how often it was run."""

    runs = 0

    def call(self, x):
        self.runs += 1
        return x


def network(seed=0, channels=4, size=8, classes=CLASSES, extra=(), activation=None, **convolution):
    """A small convolutional network with BatchNorm; `extra` layers stand before the head."""
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((size, size, 3))
    x = layers.Rescaling(1 / 128, offset=-1.0)(inputs)
    x = layers.Conv2D(channels, 3, padding="same", **convolution)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Flatten()(layers.MaxPooling2D(4)(x))
    for layer in extra:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(classes, activation=activation)(x))


def images(count=12, size=8, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def labels(count=12, seed=1):
    return np.random.default_rng(seed).integers(0, CLASSES, count, dtype=np.int32)


def compiled(kind, student, teacher=None, *, optimizer=None, options=None, **compile_options):
    """A distiller that runs eagerly, unless told otherwise: tracing takes longer than these tests' few steps."""
    distiller = kind(student, teacher, **(options or {}))
    distiller.compile(
        optimizer or keras.optimizers.SGD(RATE), **{"run_eagerly": True, "jit_compile": False, **compile_options}
    )
    return distiller


def values(model):
    return [np.array(value) for value in model.get_weights()]


def changed(before, model):
    return [
        variable.path for old, variable in zip(before, model.weights, strict=True) if not np.array_equal(old, variable)
    ]


def assert_alike(one, other, rtol=1e-4, atol=1e-6):
    for left, right in zip(values(one), values(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)


def expected_losses(student_logits, teacher_logits, y, temperature):
    """Label loss and distillation loss per image, in float64 and in another way than the library's."""
    student, teacher = np.asarray(student_logits, np.float64), np.asarray(teacher_logits, np.float64)

    def probabilities(logits):
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    p, q = probabilities(teacher / temperature), probabilities(student / temperature)
    label = -np.log(probabilities(student)[np.arange(len(y)), y])
    return label, temperature**2 * (p * np.log(p / q)).sum(axis=1)


# Promises, each a function of the class: shown to hold for kd_lib.Distiller and to fail for a defective version


def a_constant_added_to_the_teachers_logits_changes_nothing(kind):
    students = []
    for shift in (0.0, 3.0):
        teacher = network(seed=1)
        teacher.layers[-1].bias.assign_add(np.full(CLASSES, shift, np.float32))
        distiller = compiled(kind, network(), teacher)
        distiller.train_on_batch(images(), labels())
        students.append(distiller.student)
    assert_alike(*students)


def the_teachers_answers_alone_teach_the_student(kind):
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    centers = generator.normal(0, 1, (10, 16)).astype(np.float32)
    y = generator.integers(0, 10, 640)
    x = centers[y] + generator.normal(0, 0.3, (640, 16)).astype(np.float32)
    teacher, student = (keras.Sequential([layers.Input((16,)), layers.Dense(10)]) for _ in range(2))
    teacher.set_weights([4 * centers.T, 50 - 2 * (centers**2).sum(axis=1)])  # the nearest centre
    distiller = compiled(
        kind, student, teacher, optimizer=keras.optimizers.Adam(0.02), options={"alpha": 0.0}, run_eagerly=False
    )
    distiller.fit(x, y, epochs=8, verbose=0)
    assert distiller.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.8


def the_metrics_are_the_losses_of_the_paper(kind):
    student, teacher = network(), network(seed=1)
    distiller = compiled(kind, student, teacher, options={"alpha": 0.3, "temperature": 3.0})
    logits = network()(images(), training=True)
    label, distillation = expected_losses(logits, teacher(images()), labels(), 3.0)
    logs = distiller.train_on_batch(images(), labels(), return_dict=True)
    assert logs["label_loss"] == pytest.approx(label.mean(), rel=1e-4)
    assert logs["distillation_loss"] == pytest.approx(distillation.mean(), rel=1e-4)
    assert logs["loss"] == pytest.approx(0.3 * label.mean() + 0.7 * distillation.mean(), rel=1e-4)


def the_size_of_the_update_does_not_fade_with_the_temperature(kind):
    sizes = []
    for temperature in (10.0, 100.0):
        distiller = compiled(kind, network(), network(seed=1), options={"alpha": 0.0, "temperature": temperature})
        before = values(distiller.student)[-2]
        distiller.train_on_batch(images(), labels())
        sizes.append(np.abs(values(distiller.student)[-2] - before).sum())
    assert sizes[1] > 0.5 * sizes[0] > 0


def the_student_runs_once_a_step(kind):
    student = network()
    x = images()
    maps = student.layers[2](student.layers[1](x))
    compiled(kind, student, network(seed=1)).train_on_batch(x, labels())
    np.testing.assert_allclose(
        student.layers[3].moving_mean, 0.1 * ops.mean(maps, axis=(0, 1, 2)), rtol=1e-3, atol=1e-5
    )


def evaluate_changes_no_variable(kind):
    distiller = compiled(kind, network(extra=[layers.Dropout(0.5)]), network(seed=1))
    distiller.train_on_batch(images(), labels())
    everything = [*distiller.variables, *distiller.optimizer.variables]
    counted = {id(variable) for metric in distiller.metrics for variable in metric.variables}
    kept = [variable for variable in everything if id(variable) not in counted]
    before = [np.array(variable) for variable in kept]
    distiller.evaluate(images(seed=2), labels(), verbose=0)
    distiller.predict(images(seed=2), verbose=0)
    for old, variable in zip(before, kept, strict=True):
        np.testing.assert_array_equal(old, variable, err_msg=variable.path)


def sample_weights_count_in_both_losses(kind):
    # Weight 0 for half the images, alpha 0 and 1: as if they carried neither label nor teacher. BatchNorm is frozen, so
    # that the images left out do not act through its statistics.
    weights = np.array([1.0, 0.0] * 6, np.float32)
    for alpha in (0.0, 1.0):
        student = network(trainable=True)
        student.layers[3].trainable = False
        alone = keras.models.clone_model(student)
        alone.set_weights(student.get_weights())
        alone.layers[3].trainable = False
        distiller = compiled(kind, student, network(seed=1), options={"alpha": alpha})
        distiller.train_on_batch(images(), labels(), sample_weight=weights)
        half = compiled(
            Distiller, alone, network(seed=1), options={"alpha": alpha}, optimizer=keras.optimizers.SGD(RATE / 2)
        )
        half.train_on_batch(images()[::2], labels()[::2])  # the mean is over all twelve: half the rate for six of them
        assert_alike(student, alone)


def class_weights_count(kind):
    students = []
    for weights in (None, {0: 5.0, 1: 0.0, 2: 1.0, 3: 1.0, 4: 1.0}):
        distiller = compiled(kind, network(), network(seed=1))
        distiller.fit(images(), labels(), class_weight=weights, verbose=0, shuffle=False)
        students.append(distiller.student)
    assert changed(values(students[0]), students[1])


def the_students_regularisation_is_part_of_the_loss(kind):
    losses_found, kernels = [], []
    for strength in (0.0, 0.7):
        keras.utils.set_random_seed(3)
        dense = layers.Dense(8, kernel_regularizer=keras.regularizers.L2(strength))
        distiller = compiled(kind, network(extra=[dense]), network(seed=1))
        start = np.array(dense.kernel)
        losses_found.append(distiller.train_on_batch(images(), labels(), return_dict=True)["loss"])
        kernels.append(np.array(dense.kernel))
    assert losses_found[1] - losses_found[0] == pytest.approx(0.7 * np.sum(start**2), rel=1e-3)
    np.testing.assert_allclose(kernels[1] - kernels[0], -RATE * 2 * 0.7 * start, rtol=1e-3, atol=1e-5)


def losses_that_the_students_layers_add_count(kind):
    distillers = [
        compiled(kind, network(extra=extra), network(seed=1)) for extra in ([], [layers.ActivityRegularization(l1=0.1)])
    ]
    found = [distiller.train_on_batch(images(), labels(), return_dict=True)["loss"] for distiller in distillers]
    assert found[1] > found[0] + 0.01
    assert changed(values(distillers[0].student), distillers[1].student)


def _first_and_second_step(kind, change):
    distiller = compiled(kind, network(), network(seed=1), run_eagerly=False)
    distiller.train_on_batch(images(), labels())
    change(distiller)
    before = values(distiller.student)
    logs = distiller.train_on_batch(images(), labels(), return_dict=True)
    return distiller, before, logs


def a_temperature_schedule_works_after_tracing(kind):
    logits = {}

    def change(distiller):
        distiller.temperature = 1.0
        logits["student"] = distiller.student(images(), training=True)
        distiller.reset_metrics()

    distiller, _, logs = _first_and_second_step(kind, change)
    _, expected = expected_losses(logits["student"], network(seed=1)(images()), labels(), 1.0)
    assert logs["distillation_loss"] == pytest.approx(expected.mean(), rel=1e-3)


def an_alpha_schedule_works_after_tracing(kind):
    def change(distiller):
        distiller.alpha = 1.0

    distiller, before, _ = _first_and_second_step(kind, change)
    plain = network()
    plain.set_weights(before)
    compiled(Distiller, plain, options={"alpha": 1.0}).train_on_batch(images(), labels())
    assert_alike(distiller.student, plain)


def evaluate_and_predict_run_no_teacher(kind):
    counting = Counting()
    distiller = compiled(kind, network(), network(seed=1, extra=[counting]))
    distiller.train_on_batch(images(), labels())
    runs = counting.runs
    assert runs > 0
    distiller.evaluate(images(), labels(), verbose=0)
    distiller.predict(images(), verbose=0)
    assert counting.runs == runs


def checkpoints_hold_the_student_and_no_teacher(kind, folder):
    student, teacher = network(), network(seed=1, channels=32)
    distiller = compiled(kind, student, teacher)
    paths = [variable.path for variable in distiller.weights]
    assert len(paths) == len(student.weights) + 2, paths  # alpha and temperature
    assert not {id(variable) for variable in teacher.variables} & {id(variable) for variable in distiller.variables}
    distiller.save_weights(folder / "with_teacher.weights.h5")
    compiled(Distiller, student).save_weights(folder / "without.weights.h5")
    sizes = [(folder / f"{name}.weights.h5").stat().st_size for name in ("with_teacher", "without")]
    assert sizes[0] == sizes[1]


def a_reloaded_distiller_evaluates_and_goes_on_training(kind, folder):
    teacher = network(seed=1)
    distiller = compiled(kind, network(), teacher, optimizer=keras.optimizers.Adam(0.01), options={"temperature": 3.0})
    distiller.fit(images(), labels(), verbose=0)
    distiller.save(folder / "distiller.keras")
    again = keras.models.load_model(folder / "distiller.keras")
    assert type(again) is kind and again.compiled, "a reloaded distiller must be compiled as it was"
    assert float(again.temperature) == 3.0 and again.teacher is None
    before = distiller.evaluate(images(), labels(), verbose=0, return_dict=True)
    assert again.evaluate(images(), labels(), verbose=0, return_dict=True) == pytest.approx(before, rel=1e-5)
    for each in (distiller, again):  # the optimiser's state came along too
        each.run_eagerly = True
        answers = {"label": labels(), "teacher_logits": teacher.predict(images(), verbose=0)}
        each.fit(images(), answers, verbose=0, shuffle=False)
    assert_alike(distiller.student, again.student)


def a_float32_teacher_teaches_a_mixed_precision_student(kind):
    teacher = network(seed=1)
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        student = network()
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    before = values(student)
    try:
        distiller = compiled(kind, student, teacher)
        logs = distiller.train_on_batch(images(), labels(), return_dict=True)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise AssertionError(error) from error
    logits = student(images())
    assert logits.dtype == tf.bfloat16 and all(variable.dtype == "float32" for variable in student.trainable_variables)
    full = compiled(Distiller, network(), teacher).train_on_batch(images(), labels(), return_dict=True)
    assert float(logs["loss"]) == pytest.approx(float(full["loss"]), rel=0.05)
    assert changed(before, student)


def the_callers_teacher_keeps_its_trainable_flags(kind):
    teacher = network(seed=1)
    teacher.layers[3].trainable = False
    flags = [layer.trainable for layer in teacher.layers]
    compiled(kind, network(), teacher).train_on_batch(images(), labels())
    assert teacher.trainable and [layer.trainable for layer in teacher.layers] == flags


def training_leaves_the_teacher_unchanged(kind):
    teacher = network(seed=1, extra=[layers.Dropout(0.5)])
    before = values(teacher)
    distiller = compiled(kind, network(), teacher)
    distiller.fit(images(), labels(), batch_size=6, verbose=0)
    assert not changed(before, teacher)


def batchnorm_learns_its_statistics_during_fit(kind):
    distiller = compiled(kind, network(), network(seed=1))
    before = values(distiller.student)
    distiller.fit(images(), labels(), verbose=0)
    norm = distiller.student.layers[3]
    assert {norm.moving_mean.path, norm.moving_variance.path} <= set(changed(before, distiller.student))


PROMISES = [
    (a_constant_added_to_the_teachers_logits_changes_nothing, defective.ClippedRawLogits),
    (the_teachers_answers_alone_teach_the_student, defective.ClippedRawLogits),
    (the_metrics_are_the_losses_of_the_paper, defective.ClippedRawLogits),
    (the_metrics_are_the_losses_of_the_paper, defective.AveragesOverClasses),
    (the_metrics_are_the_losses_of_the_paper, defective.CrossEntropyOnSoftmax),
    (the_size_of_the_update_does_not_fade_with_the_temperature, defective.WithoutTemperatureSquared),
    (the_student_runs_once_a_step, defective.RunsStudentTwice),
    (evaluate_changes_no_variable, defective.EvaluatesInTrainingMode),
    (sample_weights_count_in_both_losses, defective.IgnoresSampleWeight),
    (class_weights_count, defective.IgnoresSampleWeight),
    (the_students_regularisation_is_part_of_the_loss, defective.DropsRegularization),
    (losses_that_the_students_layers_add_count, defective.DropsRegularization),
    (a_temperature_schedule_works_after_tracing, defective.ConstantTemperature),
    (an_alpha_schedule_works_after_tracing, defective.ConstantAlpha),
    (evaluate_and_predict_run_no_teacher, defective.TeacherInEvaluation),
    (checkpoints_hold_the_student_and_no_teacher, defective.TracksTeacher),
    (checkpoints_hold_the_student_and_no_teacher, defective.ShowsTheTeacherToKeras),
    (a_reloaded_distiller_evaluates_and_goes_on_training, defective.ForgetsHowItWasCompiled),
    (a_float32_teacher_teaches_a_mixed_precision_student, defective.RefusesMixedPrecision),
    (the_callers_teacher_keeps_its_trainable_flags, defective.FreezesTheCallersTeacher),
    (training_leaves_the_teacher_unchanged, defective.TrainsTheTeacher),
    (training_leaves_the_teacher_unchanged, defective.TeacherInTrainingMode),
    (batchnorm_learns_its_statistics_during_fit, defective.BatchNormInInferenceMode),
]


def keeps(promise, kind, folder):
    promise(kind, folder) if "folder" in promise.__code__.co_varnames[: promise.__code__.co_argcount] else promise(kind)


@pytest.mark.parametrize("promise", dict(PROMISES), ids=lambda promise: promise.__name__)
def test_kd_lib_keeps_the_promise_that(promise, tmp_path):
    keeps(promise, Distiller, tmp_path)


@pytest.mark.parametrize(("promise", "kind"), PROMISES, ids=lambda thing: thing.__name__)
def test_a_defective_version_breaks_the_promise_that(promise, kind, tmp_path):
    with pytest.raises(AssertionError):
        keeps(promise, kind, tmp_path)


class SnapshotInAFile:
    """What training does: weights are written to a file."""

    def __init__(self, folder):
        self.path = folder / "weights.npz"

    def take(self, model):
        artifacts.save_weights(model, self.path)

    def restore(self, model):
        artifacts.load_weights(model, self.path)


def a_snapshot_brings_the_weights_of_its_moment_back(snapshot):
    distiller = compiled(Distiller, network(), network(seed=1))
    snapshot.take(distiller.student)
    best = values(distiller.student)
    distiller.train_on_batch(images(), labels())
    assert changed(best, distiller.student)
    snapshot.restore(distiller.student)
    for old, new in zip(best, values(distiller.student), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-6)  # float16


def test_saved_weights_are_those_of_the_moment_and_not_the_last_ones(tmp_path):
    a_snapshot_brings_the_weights_of_its_moment_back(SnapshotInAFile(tmp_path))
    with pytest.raises(AssertionError):
        a_snapshot_brings_the_weights_of_its_moment_back(defective.SnapshotByReference())


# Agreement with others


def test_updates_agree_with_keras_own_distiller_where_that_is_right():
    teacher = network(seed=1)
    ours = compiled(Distiller, network(), teacher, options={"alpha": 0.3, "temperature": 4.0})
    theirs = keras.distillation.Distiller(
        network(seed=1),
        network(),
        keras.distillation.LogitsDistillation(temperature=4.0, loss=keras.losses.KLDivergence()),
        student_loss_weight=0.3,
    )
    theirs.compile(
        keras.optimizers.SGD(RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
        jit_compile=False,
    )
    for step in range(3):
        mine = ours.train_on_batch(images(seed=step), labels(seed=step), return_dict=True)
        his = theirs.train_on_batch(images(seed=step), labels(seed=step), return_dict=True)
        assert float(mine["distillation_loss"]) == pytest.approx(float(his["distillation_loss"]), rel=1e-3)
        assert float(mine["label_loss"]) == pytest.approx(float(his["student_loss"]), rel=1e-3)
        ours.reset_metrics(), theirs.reset_metrics()
    assert_alike(ours.student, theirs.student, rtol=1e-3, atol=1e-4)


def test_alpha_1_is_plain_keras_training_step_for_step():
    def student():
        keras.utils.set_random_seed(0)  # layers draw their seeds when they are made
        return network(
            extra=[layers.Dropout(0.3), layers.Dense(8, kernel_regularizer="l2")],
            kernel_regularizer=keras.regularizers.L1(1e-3),
        )

    plain, distiller = student(), Distiller(student(), alpha=1.0)
    options = {"metrics": ["accuracy"], "run_eagerly": True, "jit_compile": False}
    plain.compile(keras.optimizers.AdamW(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    distiller.compile(keras.optimizers.AdamW(0.01), **options)
    weight = np.random.default_rng(5).uniform(0, 2, 12)
    fit = {"sample_weight": weight, "epochs": 2, "batch_size": 7, "shuffle": False, "verbose": 0}
    fit["validation_data"] = (images(seed=3), labels(seed=3))
    histories = [model.fit(images(), labels(), **fit).history for model in (plain, distiller)]
    assert_alike(plain, distiller.student, rtol=1e-5)
    for name, column in histories[0].items():
        assert histories[1][name] == pytest.approx(column, rel=1e-4), name


def test_cached_teacher_logits_give_the_update_of_the_live_teacher():
    teacher = network(seed=1)
    live, cached = compiled(Distiller, network(), teacher), compiled(Distiller, network())
    live.fit(images(), labels(), batch_size=6, shuffle=False, verbose=0)
    y = {"label": labels(), "teacher_logits": teacher.predict(images(), verbose=0)}
    cached.fit(images(), y, batch_size=6, shuffle=False, verbose=0)
    assert_alike(live.student, cached.student)


def test_with_teacher_logits_in_y_the_teacher_does_not_run():
    counting = Counting()
    distiller = compiled(Distiller, network(), network(seed=1, extra=[counting]))
    counting.runs = 0
    distiller.train_on_batch(images(), {"label": labels(), "teacher_logits": np.zeros((12, CLASSES))})
    assert counting.runs == 0


def test_arrays_tf_data_and_a_py_dataset_give_the_same_training():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            rows = slice(6 * index, 6 * index + 6)
            return images()[rows], {"label": labels()[rows], "teacher_logits": logits[rows]}

    logits = network(seed=1).predict(images(), verbose=0)
    y = {"label": labels(), "teacher_logits": logits}
    students = []
    for feed in ((images(), y), (tf.data.Dataset.from_tensor_slices((images(), y)).batch(6),), (Batches(),)):
        distiller = compiled(Distiller, network())
        distiller.fit(*feed, shuffle=False, verbose=0, **({"batch_size": 6} if len(feed) == 2 else {}))
        students.append(distiller.student)
    assert_alike(students[0], students[1])
    assert_alike(students[0], students[2])


# What is updated, and what is shown


@pytest.mark.parametrize("eagerly", [True, False])
def test_only_the_students_trainable_variables_move(eagerly):
    student, teacher = network(), network(seed=1)
    student.layers[2].trainable = False
    distiller = compiled(Distiller, student, teacher, run_eagerly=eagerly)
    before, frozen, teachers = values(student), values(student.layers[2]), values(teacher)
    distiller.fit(images(), labels(), batch_size=6, epochs=2, verbose=0)
    moved = {variable.path for variable in student.trainable_variables} | {
        variable.path for variable in student.layers[3].non_trainable_variables
    }
    assert set(changed(before, student)) == moved
    assert not changed(frozen, student.layers[2]) and not changed(teachers, teacher)
    assert float(distiller.alpha) == pytest.approx(0.1) and float(distiller.temperature) == 4.0


def test_metrics_average_over_images_and_not_over_batches():
    distiller = compiled(Distiller, network(), network(seed=1), optimizer=keras.optimizers.SGD(0.0))
    distiller.student.layers[3].trainable = False  # inference mode: logits do not depend on the batch
    label, distillation = expected_losses(network()(images()), network(seed=1)(images()), labels(), 4.0)
    logs = distiller.fit(images(), labels(), batch_size=5, shuffle=False, verbose=0).history  # batches of 5, 5 and 2
    assert set(logs) == {"loss", "accuracy", "label_loss", "distillation_loss"}
    assert logs["label_loss"] == pytest.approx([label.mean()], rel=1e-4)
    assert logs["distillation_loss"] == pytest.approx([distillation.mean()], rel=1e-4)
    assert logs["loss"] == pytest.approx([0.1 * label.mean() + 0.9 * distillation.mean()], rel=1e-4)


def test_evaluate_shows_the_label_loss_and_says_which_number_is_which():
    student = network()
    distiller = compiled(Distiller, student, network(seed=1))
    label, _ = expected_losses(student(images()), student(images()), labels(), 1.0)
    expected = {"loss": label.mean(), "label_loss": label.mean()}
    expected["accuracy"] = np.mean(np.argmax(student(images()), axis=1) == labels())
    assert distiller.evaluate(images(), labels(), verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-4)
    y = {"label": labels(), "teacher_logits": np.zeros((12, CLASSES))}
    assert distiller.evaluate(images(), y, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-4)


def test_plain_training_shows_no_distillation_loss():
    distiller = compiled(Distiller, network(), options={"alpha": 1.0})
    history = distiller.fit(images(), labels(), validation_data=(images(), labels()), verbose=0).history
    assert set(history) == {"loss", "accuracy", "label_loss", "val_loss", "val_accuracy", "val_label_loss"}


def test_predict_and_call_are_the_students():
    student = network()
    distiller = compiled(Distiller, student, network(seed=1))
    np.testing.assert_allclose(distiller.predict(images(), verbose=0), student.predict(images(), verbose=0), rtol=1e-5)
    np.testing.assert_array_equal(distiller(images()), student(images()))


def test_uint8_images_give_the_update_of_float_images():
    students = []
    for kind in (np.uint8, np.float32):
        distiller = compiled(Distiller, network(), network(seed=1))
        distiller.train_on_batch(np.round(images()).astype(kind), labels())
        students.append(distiller.student)
    assert_alike(*students)


def test_the_default_compile_options_work_with_a_callback_that_cools():
    distiller = Distiller(network(), network(seed=1))
    distiller.compile(keras.optimizers.Adam(0.01))
    cool = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(distiller, "temperature", 2.0))
    history = distiller.fit(images(), labels(), epochs=2, callbacks=[cool], verbose=0).history
    assert np.isfinite(history["loss"]).all() and float(distiller.temperature) == 2.0


def test_the_first_fit_traces_its_step_once():
    traces = []

    class Counted(Distiller):
        def compute_loss(self, *arguments, training=True, **options):
            traces.append(training)
            return super().compute_loss(*arguments, training=training, **options)

    distiller = compiled(Counted, network(), network(seed=1), run_eagerly=False)
    distiller.fit(images(), labels(), batch_size=6, verbose=0)
    assert traces == [True]


def test_a_loss_of_ones_own_is_used():
    def squared(student_logits, teacher_logits, temperature):
        return ops.mean(ops.square(student_logits - teacher_logits), axis=1) / temperature

    student, teacher = network(), network(seed=1)
    distiller = compiled(Distiller, student, teacher, options={"loss": squared, "temperature": 2.0})
    expected = np.mean((network()(images(), training=True) - teacher(images())) ** 2) / 2
    logs = distiller.train_on_batch(images(), labels(), return_dict=True)
    assert float(logs["distillation_loss"]) == pytest.approx(expected, rel=1e-4)


# Labels, weights


def test_unlabelled_images_are_learned_from_the_teacher_alone():
    labelled = compiled(Distiller, network(), network(seed=1), options={"alpha": 0.0})
    labelled.train_on_batch(images(), labels())
    live, cached = compiled(Distiller, network(), network(seed=1), options={"alpha": 0.0}), None
    history = live.fit(images(), verbose=0).history
    assert set(history) == {"loss", "distillation_loss"}
    cached = compiled(Distiller, network(), options={"alpha": 0.0})
    cached.fit(images(), {"teacher_logits": network(seed=1).predict(images(), verbose=0)}, verbose=0)
    assert_alike(labelled.student, live.student)
    assert_alike(labelled.student, cached.student)


@pytest.mark.parametrize("form", ["array", "dict"])
def test_sample_weights_with_a_dict_y_weigh_both_losses(form):
    weight = np.random.default_rng(5).uniform(0, 2, 12).astype(np.float32)
    plain = compiled(Distiller, network(), network(seed=1))
    plain.fit(images(), labels(), sample_weight=weight, batch_size=6, shuffle=False, verbose=0)
    y = {"label": labels(), "teacher_logits": network(seed=1).predict(images(), verbose=0)}
    weights = weight if form == "array" else {"label": weight, "teacher_logits": np.ones(12)}
    distiller = compiled(Distiller, network())
    distiller.fit(images(), y, sample_weight=weights, batch_size=6, shuffle=False, verbose=0)
    assert_alike(plain.student, distiller.student)


def test_sample_weights_without_labels_weigh_the_distillation_loss():
    wanted = network(seed=1)(images()).numpy()
    weights = np.arange(12, dtype=np.float32)
    weighed, twice = (compiled(Distiller, network(), options={"alpha": 0.0}) for _ in range(2))
    weighed.fit(images(), {"teacher_logits": wanted}, sample_weight=weights, batch_size=12, epochs=1, verbose=0)
    y = {"label": labels(), "teacher_logits": wanted}
    twice.fit(images(), y, sample_weight=weights, batch_size=12, epochs=1, verbose=0)
    assert_alike(weighed.student, twice.student)


def test_without_labels_evaluation_shows_the_distillation_loss():
    wanted = network(seed=1)(images()).numpy()
    distiller = compiled(Distiller, network(), options={"alpha": 0.0, "temperature": 2.0})
    found = distiller.evaluate(images(), {"teacher_logits": wanted}, verbose=0, return_dict=True)
    expected = np.mean(losses.kd(distiller.student(images()), wanted, 2.0))
    assert found["distillation_loss"] == pytest.approx(float(expected), rel=1e-4)
    history = distiller.fit(images(), {"teacher_logits": wanted}, validation_split=0.25, verbose=0).history
    assert set(history) == {"loss", "distillation_loss", "val_loss", "val_distillation_loss"}


def test_alpha_that_falls_below_1_without_a_teacher_is_refused():
    distiller = compiled(Distiller, network(), options={"alpha": 1.0})
    distiller.fit(images(), labels(), verbose=0)
    with pytest.raises(ValueError, match="alpha was 1 when training began"):
        distiller.alpha = 0.5
    given = compiled(Distiller, network(), options={"alpha": 1.0})
    given.fit(images(), {"label": labels(), "teacher_logits": network(seed=1)(images()).numpy()}, verbose=0)
    given.alpha = 0.5
    other = compiled(Distiller, network(), options={"alpha": 0.5})
    other.alpha.assign(1.0)
    other.fit(images(), labels(), verbose=0)


def test_weighted_metrics_use_the_sample_weights():
    weight = np.random.default_rng(5).uniform(0, 2, 12).astype(np.float32)
    distiller = compiled(
        Distiller, network(), network(seed=1), weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="w")]
    )
    found = distiller.evaluate(images(), labels(), sample_weight=weight, verbose=0, return_dict=True)["w"]
    right = np.argmax(distiller.student(images()), axis=1) == labels()
    assert found == pytest.approx((weight * right).sum() / weight.sum(), rel=1e-5)


def test_class_weight_with_a_dict_y_is_refused_and_sample_weight_named():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return images(), y

    y = {"label": labels(), "teacher_logits": np.zeros((12, CLASSES), np.float32)}
    distiller = compiled(Distiller, network())
    for feed in ((images(), y), (tf.data.Dataset.from_tensors((images(), y)),), (Batches(),)):
        with pytest.raises(ValueError, match="class_weight.*sample_weight"):
            distiller.fit(*feed, class_weight={0: 2.0}, verbose=0)


def test_alpha_below_1_without_a_teacher_is_refused_at_the_first_batch():
    distiller = compiled(Distiller, network(), run_eagerly=False)
    before = values(distiller.student)
    with pytest.raises(ValueError, match="alpha is below 1.*teacher_logits.*alpha=1"):
        distiller.fit(images(), labels(), verbose=0)
    assert not changed(before, distiller.student)


def test_neither_labels_nor_teacher_is_refused():
    with pytest.raises(ValueError, match="neither 'label' nor 'teacher_logits'"):
        compiled(Distiller, network(), options={"alpha": 1.0}).train_on_batch(images())


def test_a_step_that_would_learn_nothing_is_refused():
    with pytest.raises(ValueError, match="alpha is 1, .* there are none"):
        compiled(Distiller, network(), network(seed=1), options={"alpha": 1.0}).train_on_batch(images())
    with pytest.raises(ValueError, match="Evaluation runs no teacher: give it labels"):
        compiled(Distiller, network(), network(seed=1)).evaluate(images(), verbose=0)


def test_a_misspelt_name_in_y_is_refused():
    y = {"labels": labels(), "teacher_logits": np.zeros((12, CLASSES), np.float32)}
    with pytest.raises(ValueError, match="y may hold 'label' and 'teacher_logits'. Received: labels"):
        compiled(Distiller, network()).train_on_batch(images(), y)


def test_fit_before_compile_is_refused():
    with pytest.raises(ValueError, match="Call compile"):
        Distiller(network(), network(seed=1)).fit(images(), labels())


# Networks that do not fit


def softmax_heads():
    inputs = layers.Input((8, 8, 3))
    flat = layers.Dense(CLASSES)(layers.Flatten()(inputs))
    return {
        "activation": network(activation="softmax"),
        "layer": keras.Model(inputs, layers.Softmax()(flat)),
        "activation layer": keras.Model(inputs, layers.Activation("softmax")(flat)),
        "inside another model": keras.Sequential([layers.Input((8, 8, 3)), network(activation="softmax")]),
    }


@pytest.mark.parametrize("kind", ["activation", "layer", "activation layer", "inside another model"])
def test_a_softmax_head_is_refused_on_either_side(kind):
    head = softmax_heads()[kind]
    with pytest.raises(ValueError, match="student's last layer .* is a softmax.*logits"):
        Distiller(head, network())
    with pytest.raises(ValueError, match="teacher's last layer .* is a softmax.*logits"):
        Distiller(network(), head)


@pytest.mark.parametrize(
    "end",
    [
        lambda x: ops.softmax(x),
        lambda x: layers.Reshape((CLASSES,))(layers.Softmax()(x)),
        lambda x: layers.Activation("linear")(layers.Dropout(0.1)(layers.Softmax()(x))),
    ],
    ids=["operation", "reshaped", "dropped"],
)
def test_a_softmax_that_hides_is_refused(end):
    inner = network()
    model = keras.Model(inner.inputs, end(inner.outputs[0]))
    with pytest.raises(ValueError, match="is a softmax, but distillation needs logits"):
        Distiller(network(), model)


def shares(x):
    return (ops.sigmoid(x) + 0.01) / ops.sum(ops.sigmoid(x) + 0.01, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "end",
    [
        lambda: layers.Dense(CLASSES, activation=ops.softmax),
        lambda: layers.Dense(CLASSES, activation=tf.nn.softmax),
        lambda: layers.Dense(CLASSES, activation=functools.partial(ops.softmax, axis=-1)),
        lambda: layers.Dense(CLASSES, activation=shares),
        lambda: layers.Lambda(lambda x: tf.nn.softmax(x)),
    ],
    ids=["operation", "of tensorflow", "partial", "by hand", "Lambda layer"],
)
def test_a_network_that_answers_probabilities_is_refused_on_either_side(end):
    inputs = layers.Input((None, None, 3))
    model = keras.Model(inputs, end()(layers.GlobalAveragePooling2D()(layers.Conv2D(CLASSES, 1)(inputs))))
    for role, both in (("student", (model, None)), ("teacher", (network(), [network(seed=1), model]))):
        with pytest.raises(ValueError, match=f"{role} '.*' answers probabilities.*needs logits|{role}.*is a softmax"):
            Distiller(*both)


@pytest.mark.parametrize("activation", ["sigmoid", tf.nn.sigmoid])
def test_a_sigmoid_head_is_refused(activation):
    with pytest.raises(ValueError, match="student's last layer .* is a sigmoid.*logits"):
        Distiller(network(activation=activation))


def test_logits_of_every_kind_are_accepted():
    for logits in (
        network(classes=2),
        network(activation="log_softmax"),
        models.committee([network(seed=1), network(seed=2)]),
        network(activation=lambda x: 0.0 * x),
        network(activation=lambda x: ops.abs(x)),
    ):
        Distiller(logits)
        Distiller(network(classes=logits.output_shape[-1]), logits)


def test_networks_that_cannot_be_shown_noise_are_not_asked():
    one, two = layers.Input((4,), name="one"), layers.Input((4,), name="two")
    words = layers.Input((4,), dtype="int32")
    letters = layers.Input((), dtype="string")
    for inputs, features in (
        ({"one": one}, one),
        ([one, two], layers.Add()([one, two])),
        (words, layers.Flatten()(layers.Embedding(3, 2)(words))),
        (letters, layers.Embedding(3, 2)(layers.StringLookup(vocabulary=["a"])(letters))),
    ):
        Distiller(keras.Model(inputs, layers.Dense(CLASSES)(features)))


def test_each_network_is_asked_once_and_stays_as_it_was():
    counters = Counting(), Counting()
    student, teacher = (network(seed, extra=[layers.Dropout(0.5), one]) for seed, one in enumerate(counters))
    before, runs = [values(one) for one in (student, teacher)], [counter.runs for counter in counters]
    states = [np.array(layer.seed_generator.state) for layer in student.layers if isinstance(layer, layers.Dropout)]
    drawn = np.random.get_state()[1].copy()
    Distiller(student, teacher)
    assert [counter.runs - old for counter, old in zip(counters, runs, strict=True)] == [1, 1]
    assert not changed(before[0], student) and not changed(before[1], teacher)
    after = [np.array(layer.seed_generator.state) for layer in student.layers if isinstance(layer, layers.Dropout)]
    np.testing.assert_array_equal(states, after)
    np.testing.assert_array_equal(drawn, np.random.get_state()[1])


def test_a_student_without_a_shape_is_refused():
    with pytest.raises(ValueError, match="The student .* has no output shape yet: use a Functional model"):
        Distiller(keras.Sequential([layers.Dense(CLASSES)]))


def test_unequal_class_counts_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="student with 5 classes, teacher with 7"):
        Distiller(network(), network(classes=7))
    with pytest.raises(ValueError, match="5 student logits and 7 teacher"):
        compiled(Distiller, network()).train_on_batch(
            images(), {"label": labels(), "teacher_logits": np.zeros((12, 7))}
        )


def test_a_model_that_answers_maps_is_refused():
    inputs = layers.Input((8, 8, 3))
    with pytest.raises(ValueError, match=r"student must answer logits \[batch, classes\].*8, 8, 5"):
        Distiller(keras.Model(inputs, layers.Conv2D(5, 1)(inputs)))


@pytest.mark.parametrize("temperature", [0, -2.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused_at_once_and_later(temperature):
    with pytest.raises(ValueError, match=f"temperature.*positive.*{temperature}"):
        Distiller(network(), temperature=temperature)
    distiller = Distiller(network())
    with pytest.raises(ValueError, match=f"temperature.*positive.*{temperature}"):
        distiller.temperature = temperature
    assert float(distiller.temperature) == 4.0


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_0_to_1_is_refused_at_once_and_later(alpha):
    with pytest.raises(ValueError, match=re.escape(f"[0, 1]. Received: {alpha}")):
        Distiller(network(), alpha=alpha)
    distiller = Distiller(network())
    with pytest.raises(ValueError, match="alpha"):
        distiller.alpha = alpha
    assert float(distiller.alpha) == pytest.approx(0.1)


SCALARS = {
    "NumPy number": np.float32, "array": np.array, "tensor": tf.constant, "variable": tf.Variable,
    "Keras variable": keras.Variable, "bfloat16": lambda value: tf.constant(value, tf.bfloat16),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCALARS.values(), ids=SCALARS)
def test_settings_may_be_scalars_of_every_kind_and_are_checked(kind):
    distiller = Distiller(network(), alpha=kind(0.25), temperature=kind(2.0))
    weights = len(distiller.weights)
    assert (float(distiller.alpha), float(distiller.temperature)) == (0.25, 2.0)
    distiller.alpha, distiller.temperature = kind(0.5), kind(8.0)
    assert (float(distiller.alpha), float(distiller.temperature)) == (0.5, 8.0) and len(distiller.weights) == weights
    for name, wrong, message in (("alpha", -0.5, r"\[0, 1\]. Received: -0.5"), ("temperature", -1.0, "Received: -1.0")):
        with pytest.raises(ValueError, match=message):
            Distiller(network(), **{name: kind(wrong)})
        with pytest.raises(ValueError, match=message):
            setattr(distiller, name, kind(wrong))
    assert (float(distiller.alpha), float(distiller.temperature)) == (0.5, 8.0)


def test_settings_are_changed_in_place_and_checked():
    distiller = Distiller(network(), alpha=0.5, temperature=4.0)
    distiller.alpha = distiller.alpha * 0.5
    distiller.temperature -= 1
    with pytest.raises(ValueError, match="temperature.*positive.*-2.0"):
        distiller.temperature = distiller.temperature - 5
    assert (float(distiller.alpha), float(distiller.temperature)) == (0.25, 3.0)


@pytest.mark.parametrize("value", [[4.0], np.array([4.0]), None, "4", True, 1j, keras.KerasTensor(())], ids=repr)
def test_settings_that_are_no_single_number_are_refused(value):
    distiller = Distiller(network())
    for name in ("alpha", "temperature"):
        with pytest.raises(ValueError, match=f"{name} must be one number. Received"):
            Distiller(network(), **{name: value})
        with pytest.raises(ValueError, match=f"{name} must be one number. Received"):
            setattr(distiller, name, value)


# Labels that are no class


@pytest.mark.parametrize(
    "form",
    [
        np.asarray,
        tf.constant,
        lambda y: y[:, None],
        lambda y: {"label": y, "teacher_logits": np.zeros((12, CLASSES), np.float32)},
        lambda y: y.astype(np.float32),
    ],
    ids=["array", "tensor", "column", "dict", "float"],
)
def test_labels_that_are_no_class_are_refused_before_the_first_step(form):
    wrong = labels()
    wrong[:2] = -1, 99
    distiller = compiled(Distiller, network(), network(seed=1), label_loss=SmoothedCrossentropy())
    before = values(distiller.student)
    message = r"Labels must lie in 0..4 for functional.*, of 5 logits. Received {} labels from -1 to 99"
    with pytest.raises(ValueError, match=message.format("training")):
        distiller.fit(images(), form(wrong), verbose=0)
    with pytest.raises(ValueError, match=message.format("validation")):
        distiller.fit(images(), labels(), validation_data=(images(), form(wrong)), verbose=0)
    with pytest.raises(ValueError, match=message.format("evaluation")):
        distiller.evaluate(images(), form(wrong), verbose=0)
    assert not changed(before, distiller.student)


@pytest.mark.parametrize(
    ("answers", "message"),
    [(np.full((12, CLASSES), 0.2), "teacher_logits are probabilities"), (np.full((12, CLASSES), np.nan), "not finite")],
    ids=["probabilities", "not a number"],
)
def test_given_answers_that_are_no_logits_are_refused_before_the_first_step(answers, message):
    distiller = compiled(Distiller, network())
    before = values(distiller.student)
    with pytest.raises(ValueError, match=message):
        distiller.fit(images(), {"label": labels(), "teacher_logits": answers}, verbose=0)
    assert not changed(before, distiller.student)


def test_a_teacher_that_has_weights_of_the_student_is_refused():
    student = network()
    longer = keras.Model(student.input, layers.Dense(CLASSES)(student.output))
    for teacher in (student, longer):
        with pytest.raises(ValueError, match="share weights.*clone_model"):
            Distiller(student, teacher)


def test_one_hot_labels_are_refused_by_a_loss_of_class_numbers():
    one_hot = np.eye(CLASSES, dtype=np.int32)[labels()]
    with pytest.raises(ValueError, match="look one-hot.*argmax"):
        compiled(Distiller, network(), options={"alpha": 1.0}).fit(images(), one_hot, verbose=0)


def test_labels_that_are_no_class_numbers_and_those_to_ignore_are_let_through():
    one_hot = np.eye(CLASSES, dtype=np.int32)[labels()]
    hot = compiled(Distiller, network(), network(seed=1), label_loss=keras.losses.CategoricalCrossentropy(True))
    hot.fit(images(), one_hot, validation_data=(images(), one_hot), verbose=0)
    some = np.where(np.arange(12) < 3, -1, labels())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    ignoring = compiled(Distiller, network(), network(seed=1), label_loss=loss, metrics=[])
    assert np.isfinite(ignoring.fit(images(), some, verbose=0).history["loss"]).all()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    single = compiled(Distiller, network(classes=1), options={"alpha": 1.0}, label_loss=loss, metrics=[])
    single.fit(images(), labels()[:, None] % 2, verbose=0)


def test_arguments_that_do_not_exist_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match="'kl'. Choose one of: kd, dkd, dist, standardized_kd, or pass a function"):
        Distiller(network(), loss="kl")
    with pytest.raises(ValueError, match="Unknown distillation loss"):
        Distiller(network(), loss=["kd", "dist"])
    with pytest.raises(ValueError, match="one positive number per teacher"):
        Distiller(network(), network(seed=1), teacher_weights=3)
    for settings in ({"alpha": "0.1"}, {"temperature": "4"}, {"temperature": None}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            Distiller(network(), **settings)
    with pytest.raises(ValueError, match="label_loss="):
        Distiller(network()).compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="features"):
        Distiller(network(), features=[("a", "b")])
    with pytest.raises(ValueError, match="label_loss"):
        Distiller(network()).compile("sgd", loss="sparse_categorical_crossentropy")


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()])
def test_a_label_loss_that_expects_probabilities_is_refused(loss):
    with pytest.raises(ValueError, match="label_loss.*from_logits=True"):
        Distiller(network()).compile("sgd", label_loss=loss)


# Images of two sizes


def area(x):
    return x.reshape(len(x), 8, 2, 8, 2, 3).mean(axis=(2, 4))


def test_the_smaller_network_sees_an_area_resized_copy_of_the_same_images():
    x = images(size=16)
    for student, teacher, student_x, teacher_x in (
        (network(), network(seed=1, size=16), area(x), x),
        (network(size=16), network(seed=1), x, area(x)),
    ):
        twin = keras.models.clone_model(student)
        twin.set_weights(student.get_weights())
        distiller = compiled(Distiller, student, teacher)
        distiller.train_on_batch(x, labels())
        cached = compiled(Distiller, twin)
        cached.train_on_batch(student_x, {"label": labels(), "teacher_logits": teacher(teacher_x)})
        assert_alike(student, twin)
        found = distiller.evaluate(x, labels(), verbose=0, return_dict=True)
        assert found == pytest.approx(cached.evaluate(student_x, labels(), verbose=0, return_dict=True), rel=1e-4)


def test_a_size_that_does_not_divide_is_resized_without_aliasing():
    # A fine checkerboard is grey from afar; skipping pixels would show black or white.
    board = np.indices((12, 12)).sum(axis=0) % 2 * 255.0
    x = np.broadcast_to(board[None, :, :, None], (1, 12, 12, 3)).astype(np.float32)
    inputs = layers.Input((8, 8, 3))
    mean = keras.Model(inputs, layers.Flatten()(inputs))
    seen = Distiller(mean, alpha=1.0)(x).numpy()
    assert seen.shape == (1, 192) and np.abs(seen - 127.5).max() < 64


def test_images_smaller_than_a_network_takes_are_refused_with_both_sizes():
    for student, teacher, name in ((network(size=16), network(), "16 x 16"), (network(), network(size=16), "16 x 16")):
        distiller = compiled(Distiller, student, teacher)
        with pytest.raises(ValueError, match=f"{name} pixels but was given 8 x 8.*image_size=16"):
            distiller.train_on_batch(images(), labels())


def test_a_teacher_of_any_input_size_sees_the_images_as_they_are():
    inputs = layers.Input((None, None, 3))
    teacher = keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(inputs)))
    distiller = compiled(Distiller, network(), teacher)
    assert np.isfinite(distiller.train_on_batch(images(), labels())).all()


# Precision, saving, replicas


def test_a_float16_students_loss_is_scaled_and_its_update_is_that_of_float32():
    teacher = network(seed=1)
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        half = network()
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    distiller = compiled(Distiller, half, teacher, optimizer=keras.optimizers.SGD(0.05))
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    full = compiled(Distiller, network(), teacher, optimizer=keras.optimizers.SGD(0.05))
    logs = [each.train_on_batch(images(), labels(), return_dict=True) for each in (distiller, full)]
    assert float(logs[0]["loss"]) == pytest.approx(float(logs[1]["loss"]), rel=0.02)
    assert_alike(half, full.student, rtol=0.1, atol=0.02)


def test_a_distiller_with_a_loss_of_ones_own_is_saved_and_loaded(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    def squared(student_logits, teacher_logits, temperature):
        return ops.mean(ops.square(student_logits - teacher_logits), axis=1)

    distiller = compiled(Distiller, network(), network(seed=1), options={"loss": squared})
    distiller.train_on_batch(images(), labels())
    distiller.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    y = {"label": labels(), "teacher_logits": network(seed=1).predict(images(), verbose=0)}
    for each in (distiller, again):
        each.run_eagerly = True
        each.train_on_batch(images(), y)
    assert_alike(distiller.student, again.student)


def test_a_plain_distiller_is_saved_and_loaded_as_plain(tmp_path):
    distiller = compiled(Distiller, network(), options={"alpha": 1.0})
    distiller.save(tmp_path / "plain.keras")
    again = keras.models.load_model(tmp_path / "plain.keras")
    again.run_eagerly = True
    assert np.isfinite(again.train_on_batch(images(), labels())).all()
