"""Tests of several losses, several teachers and features: `Distiller(loss=..., teacher=[...], features=...)`."""

import defective
import keras
import numpy as np
import pytest
from keras import layers, ops
from test_distiller import CLASSES, Counting, compiled, expected_losses, images, labels, network, values

from kd_lib import Distiller, faculty, losses
from kd_lib.faculty import describe_distiller
from kd_lib.keys import key_of

HINT = ("conv", "conv", "hint")


def named(seed=0, channels=4, size=8, counter=None, dtype=None):
    """A network whose layers have names: conv [4, 4, channels], embedding [8], logits."""
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((size, size, 3))
    x = layers.Rescaling(1 / 128, offset=-1.0)(inputs)
    x = layers.Conv2D(channels, 3, padding="same", strides=2, name="conv", dtype=dtype)(x)
    x = layers.BatchNormalization(momentum=0.9, name="bn", dtype=dtype)(x)
    x = counter(x) if counter else x
    x = layers.Dense(8, name="embedding", dtype=dtype)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits", dtype="float32")(x))


def step(distiller, y=None, x=None):
    return distiller.train_on_batch(images() if x is None else x, labels() if y is None else y, return_dict=True)


def logits_and_maps(model, name, training=True):
    """What a network of `named` answers to the images, and its features."""
    part = keras.Model(model.inputs[0], [model.output, model.get_layer(name).output])
    return [ops.convert_to_numpy(value) for value in part(images(), training=training)]


# Several losses


def test_a_dict_of_losses_is_their_weighted_sum():
    student, teacher = network(), network(seed=1)
    wanted, given = teacher(images()), network()(images(), training=True)
    options = {"loss": {"kd": 0.9, "dist": 0.5, losses.standardized_kd: 2.0}, "temperature": 3.0}
    logs = step(compiled(Distiller, student, teacher, options=options))
    parts = np.mean(losses.kd(given, wanted, 3.0)), losses.dist(given, wanted, 3.0)
    expected = 0.9 * parts[0] + 0.5 * parts[1] + 2.0 * np.mean(losses.standardized_kd(given, wanted, 3.0))
    assert logs["distillation_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_dkd_is_given_the_labels_and_needs_them():
    teacher = network(seed=1)
    expected = np.mean(losses.dkd(network()(images(), training=True), teacher(images()), labels(), 4.0))
    logs = step(compiled(Distiller, network(), teacher, options={"loss": "dkd"}))
    assert logs["distillation_loss"] == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(ValueError, match="dkd.*needs labels"):
        compiled(Distiller, network(), teacher, options={"loss": "dkd", "alpha": 0.0}).fit(images(), verbose=0)


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_every_loss_trains_through_fit(name):
    distiller = compiled(
        Distiller, network(), network(seed=1), options={"loss": name}, optimizer="adam", run_eagerly=False
    )
    history = distiller.fit(images(), labels(), epochs=8, batch_size=12, verbose=0).history["distillation_loss"]
    assert history[-1] < history[0]


def test_what_is_no_loss_of_two_networks_is_refused():
    with pytest.raises(ValueError, match="kl_divergence is a loss of labels and predictions"):
        Distiller(network(), network(seed=1), loss=keras.losses.KLDivergence())
    for nothing in (None, {}):
        with pytest.raises(ValueError, match="nothing to learn from a teacher"):
            Distiller(network(), network(seed=1), loss=nothing)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "much", True])
def test_a_weight_that_is_no_size_is_refused(weight):
    with pytest.raises(ValueError, match=f"weight of kd must be a finite number.*{weight}"):
        Distiller(network(), network(seed=1), loss={"kd": weight})
    with pytest.raises(ValueError, match=f"weight of hint must be a finite number.*{weight}"):
        Distiller(named(), named(seed=1), features=[(*HINT, weight)])


def test_scalar_losses_do_not_mind_sample_weights():
    teacher = network(seed=1)
    expected = losses.dist(network()(images(), training=True), teacher(images()), 4.0)
    distiller = compiled(Distiller, network(), teacher, options={"loss": "dist"})
    logs = distiller.train_on_batch(images(), labels(), sample_weight=np.linspace(0, 1, 12), return_dict=True)
    assert logs["distillation_loss"] == pytest.approx(float(expected), rel=1e-4)


# Several teachers


@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_several_teachers_are_averaged_in_softened_probability(weights):
    teachers = [network(seed=1), network(seed=2)]
    shares = [0.5, 0.5] if weights is None else [0.75, 0.25]
    wanted = [np.asarray(keras.ops.softmax(teacher(images()) / 3.0), np.float64) for teacher in teachers]
    mean = shares[0] * wanted[0] + shares[1] * wanted[1]
    _, expected = expected_losses(network()(images(), training=True), 3.0 * np.log(mean), labels(), 3.0)
    options = {"temperature": 3.0, "teacher_weights": weights}
    distiller = compiled(Distiller, network(), teachers, options=options)
    assert step(distiller)["distillation_loss"] == pytest.approx(expected.mean(), rel=1e-4)
    assert distiller.teacher == tuple(teachers)


def test_one_teacher_in_a_list_is_that_teacher():
    one = step(compiled(Distiller, network(), [network(seed=1)]))
    assert one == pytest.approx(step(compiled(Distiller, network(), network(seed=1))), rel=1e-5)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_of_teachers_must_be_one_positive_number_each(weights):
    with pytest.raises(ValueError, match=r"one positive number per teacher \(2\)"):
        Distiller(network(), [network(seed=1), network(seed=2)], teacher_weights=weights)


def test_a_teacher_may_be_a_saved_model(tmp_path):
    teacher = network(seed=1)
    teacher.save(tmp_path / "teacher.keras")
    saved = compiled(Distiller, network(), str(tmp_path / "teacher.keras"))
    assert step(saved) == pytest.approx(step(compiled(Distiller, network(), teacher)), rel=1e-5)
    with pytest.raises(ValueError, match="no teacher at .*missing.keras"):
        Distiller(network(), tmp_path / "missing.keras")


def test_a_path_that_holds_no_model_says_what_does(tmp_path):
    (tmp_path / "cut.keras").write_bytes(b"PK")
    for place in (tmp_path, tmp_path / "cut.keras"):
        with pytest.raises(ValueError, match="no whole model .*CachedLogits.open.*replay.load_model"):
            Distiller(network(), place)


def test_a_teacher_without_a_shape_is_refused():
    with pytest.raises(ValueError, match="teacher 'unbuilt' has no output shape yet"):
        Distiller(network(), keras.Sequential([layers.Flatten(), layers.Dense(CLASSES)], name="unbuilt"))


def test_as_many_teachers_logits_as_weights():
    distiller = compiled(Distiller, network(), options={"teacher_weights": [1, 2]}, run_eagerly=True)
    y = {"label": labels(), "teacher_logits": np.zeros((len(labels()), 3, CLASSES), np.float32)}
    with pytest.raises(ValueError, match="logits of 3 teachers; 2 have weights"):
        distiller.train_on_batch(images(), y)


def test_a_distiller_of_features_alone_needs_features():
    distiller = compiled(Distiller, network(), options={"loss": None}, run_eagerly=True)
    y = {"label": labels(), "teacher_logits": np.zeros((len(labels()), CLASSES), np.float32)}
    with pytest.raises(ValueError, match="nothing to distil"):
        distiller.train_on_batch(images(), y)


@pytest.mark.parametrize("teacher", [3, np.zeros((4, 5)), []], ids=["number", "array", "empty list"])
def test_what_cannot_teach_is_refused(teacher):
    with pytest.raises(ValueError, match="A teacher is a keras.Model|list of teachers is empty"):
        Distiller(network(), teacher)


# Features


@pytest.mark.parametrize("kind", ["hint", "attention", "rkd"])
def test_a_feature_loss_is_added_to_the_loss_on_logits(kind):
    student, teacher = named(), named(seed=1)
    given, wanted = logits_and_maps(named(), "conv"), logits_and_maps(teacher, "conv", training=False)
    weight = 3.0
    feature = weight * np.mean(losses.FEATURE_LOSSES[kind](given[1], wanted[1]))
    _, answers = expected_losses(given[0], wanted[0], labels(), 4.0)
    options = {"features": [("conv", "conv", kind, weight)]}
    logs = step(compiled(Distiller, student, teacher, options=options))
    assert logs["distillation_loss"] == pytest.approx(answers.mean() + feature, rel=1e-4)


def test_features_alone_can_teach():
    options = {"loss": None, "alpha": 0.0, "features": [HINT]}
    distiller = compiled(Distiller, named(), named(seed=1), options=options, optimizer="adam", run_eagerly=False)
    history = distiller.fit(images(), epochs=8, batch_size=12, verbose=0).history["distillation_loss"]
    assert history[-1] < history[0]


def networks_run_once_a_step_whatever_the_number_of_features(kind):
    counters = Counting(), Counting()
    student, teacher = named(counter=counters[0]), named(seed=1, counter=counters[1])
    features = [HINT, ("conv", "bn", "attention"), ("embedding", "embedding", "rkd")]
    distiller = compiled(kind, student, teacher, options={"features": features})
    before = [counter.runs for counter in counters]
    moving = np.array(student.get_layer("bn").moving_mean)
    step(distiller)
    assert [counter.runs - old for counter, old in zip(counters, before, strict=True)] == [1, 1]
    batch = logits_and_maps(named(), "conv")[1].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(student.get_layer("bn").moving_mean, 0.9 * moving + 0.1 * batch, rtol=1e-3, atol=1e-5)


def a_projector_joins_unequal_widths_and_stays_out_of_the_student(kind):
    student, teacher = named(), named(seed=1, channels=6)
    before, names = student.count_params(), [variable.path for variable in student.weights]
    distiller = compiled(kind, student, teacher, options={"features": [HINT]})
    start = [np.array(layer.kernel) for layer in distiller.projectors if layer is not None]
    step(distiller)
    (kernel,), (projector,) = start, distiller.projectors
    assert kernel.shape == (4, 6) and not np.allclose(kernel, projector.kernel)
    assert student.count_params() == before and [variable.path for variable in student.weights] == names


def float32_features_teach_a_mixed_precision_student(kind):
    student, teacher = named(dtype="mixed_float16"), named(seed=1)
    distiller = compiled(
        kind, student, teacher, options={"features": [HINT, ("embedding", "embedding", "rkd")]}, run_eagerly=False
    )
    assert np.isfinite(step(distiller)["loss"])


FEATURE_PROMISES = [
    (networks_run_once_a_step_whatever_the_number_of_features, defective.RunsTheStudentForEachFeature, AssertionError),
    (a_projector_joins_unequal_widths_and_stays_out_of_the_student, defective.WithoutProjector, ValueError),
    (float32_features_teach_a_mixed_precision_student, defective.ComparesFeaturesAsTheyAre, TypeError),
]


@pytest.mark.parametrize("promise", [promise for promise, *_ in FEATURE_PROMISES], ids=lambda value: value.__name__)
def test_kd_lib_keeps_the_promise_that(promise):
    promise(Distiller)


@pytest.mark.parametrize(("promise", "kind", "error"), FEATURE_PROMISES, ids=lambda value: value.__name__)
def test_a_defective_version_breaks_the_promise_that(promise, kind, error):
    with pytest.raises(error):
        promise(kind)


def test_evaluate_with_features_runs_no_teacher_and_changes_nothing():
    counter = Counting()
    student, teacher = named(), named(seed=1, counter=counter)
    distiller = compiled(Distiller, student, teacher, options={"features": [HINT]})
    step(distiller)
    before, runs = values(distiller), counter.runs
    logs = distiller.evaluate(images(), labels(), verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy", "label_loss"} and counter.runs == runs
    for old, new in zip(before, values(distiller), strict=True):
        np.testing.assert_array_equal(old, new)


def test_given_logits_count_and_the_teacher_runs_for_its_features_alone():
    given = np.random.default_rng(3).normal(size=(12, CLASSES)).astype(np.float32)
    student_logits, _ = logits_and_maps(named(), "conv")
    _, expected = expected_losses(student_logits, given, labels(), 4.0)
    distiller = compiled(Distiller, named(), named(seed=1), options={"features": [(*HINT, 0.0)]})
    logs = step(distiller, y={"label": labels(), "teacher_logits": given})
    assert logs["distillation_loss"] == pytest.approx(expected.mean(), rel=1e-4)


def test_a_distiller_with_features_is_saved_and_its_student_evaluates(tmp_path):
    distiller = compiled(Distiller, named(), named(seed=1, channels=6), options={"features": [HINT]})
    step(distiller)
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_allclose(again.predict(images(), verbose=0), distiller.predict(images(), verbose=0), rtol=1e-5)
    assert again.evaluate(images(), labels(), verbose=0, return_dict=True)["accuracy"] >= 0
    distiller.save_weights(tmp_path / "checkpoint.weights.h5")
    fresh = compiled(Distiller, named(seed=5), named(seed=1, channels=6), options={"features": [HINT]})
    fresh.load_weights(tmp_path / "checkpoint.weights.h5")
    np.testing.assert_array_equal(fresh.projectors[0].kernel, distiller.projectors[0].kernel)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([("conv", "convolution", "hint")], "no layer 'convolution'. It has: .*conv, bn.*logits"),
        ([("con", "conv", "hint")], "no layer 'con'. It has"),
        ([("conv", "conv", "hints")], "Unknown feature loss 'hints'. Choose one of: attention, hint, rkd"),
        ([("conv", "conv")], r"features are tuples \(teacher layer, student layer, kind\)"),
        (["conv"], "features are tuples"),
        (
            [("conv", "embedding", "hint")],
            r"no projector can join them: .* \(8,\), .* \(4, 4, 4\)",
        ),
        ([("embedding", "conv", "attention")], "no projector can join them"),
        ([("embedding", "embedding", "attention")], "attention compares maps"),
    ],
)
def test_features_that_do_not_exist_or_fit_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        Distiller(named(), named(seed=1), features=features)


@pytest.mark.parametrize("teacher", [None, "two"])
def test_features_need_one_teacher_that_can_be_run(teacher):
    teacher = [named(seed=1), named(seed=2)] if teacher else None
    with pytest.raises(ValueError, match="features need one teacher that can be run"):
        Distiller(named(), teacher, features=[HINT])


# What a training is known by


def test_losses_weights_features_and_teachers_are_part_of_the_key():
    teacher, other = named(seed=1), named(seed=2)
    found = [
        describe_distiller(Distiller(named(), *arguments, **options))
        for arguments, options in [
            ([teacher], {}),
            ([other], {}),
            ([teacher], {"loss": "dkd"}),
            ([teacher], {"loss": {"kd": 2.0}}),
            ([teacher], {"loss": {"kd": 1.0, "dist": 1.0}}),
            ([teacher], {"loss": lambda student, teacher, temperature: 0.0 * losses.kd(student, teacher)}),
            ([teacher], {"features": [HINT]}),
            ([teacher], {"features": [(*HINT, 5.0)]}),
            ([[teacher, other]], {}),
            ([[teacher, other]], {"teacher_weights": [2, 1]}),
        ]
    ]
    assert len({key_of(facts) for facts in found}) == len(found)
    assert found[0]["loss"] == "kd" and set(found[0]) == {"alpha", "temperature", "loss", "teacher", "teacher_network"}
    assert describe_distiller(Distiller(named(), teacher, loss={"kd": 1.0})) == found[0]


def test_the_faculty_is_no_part_of_the_distillers_weights():
    plain = Distiller(named(), named(seed=1))
    assert isinstance(plain.faculty, faculty.Faculty)
    assert len(plain.weights) == len(named().weights) + 2  # alpha and temperature
