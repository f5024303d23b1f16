"""Tests of kd_lib.evaluation: numbers by hand, intervals, and that evaluating changes nothing."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
from keras import layers

from kd_lib.evaluation import Report, compare, count_macs, count_params, evaluate, fit_temperature
from kd_lib.results import wilson_interval


@dataclasses.dataclass
class Split:
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    ids: np.ndarray

    def __len__(self):
        return len(self.labels)


def make_split(count=50, classes=5, size=8, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = generator.integers(0, classes, count, dtype=np.int32)
    return Split(images, labels, np.arange(count, dtype=np.int32), np.array([f"image-{i}" for i in range(count)]))


def make_model(classes=5, size=8, activation=None, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((size, size, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    return keras.Model(inputs, layers.Dense(classes, activation=activation)(x))


def report_of(predictions, labels, classes=5, teacher=None):
    logits = 10 * np.eye(classes, dtype=np.float32)[predictions]
    return Report(logits, np.asarray(labels), np.arange(len(labels)), teacher)


def report_with_right(right):
    """A report of two classes that is right where told."""
    labels = np.zeros(len(right), int)
    return report_of(np.where(right, 0, 1), labels, classes=2)


def test_counts_recall_and_wrong_ids_match_a_case_worked_by_hand():
    report = report_of([0, 0, 1, 1, 2, 0], [0, 0, 0, 1, 1, 2], classes=4)
    assert report.errors == 3 and report.accuracy == 0.5
    assert report.wrong == [2, 4, 5]
    np.testing.assert_allclose(report.per_class, [2 / 3, 1 / 2, 0, np.nan])
    assert report.macro_recall == pytest.approx((2 / 3 + 1 / 2) / 3)  # the class without images is ignored
    assert report.confusion[0].tolist() == [2, 1, 0, 0] and report.confusion[1].tolist() == [0, 1, 1, 0]


def test_confusion_and_recall_agree_with_scikit_learn():
    from sklearn.metrics import log_loss, recall_score

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 6, 400)
    report = Report(generator.normal(size=(400, 6)).astype(np.float32), labels, np.arange(400))
    np.testing.assert_allclose(report.per_class, recall_score(labels, report.predictions, average=None))
    assert report.nll == pytest.approx(log_loss(labels, report.probabilities), rel=1e-9)


def test_nll_stays_finite_where_float32_probabilities_underflow():
    report = Report(np.array([[500.0, 0.0]], np.float32), np.array([1]), np.arange(1))
    assert report.nll == pytest.approx(500)


def test_calibration_error_matches_a_case_worked_by_hand():
    # Four answers at confidence 0.6, half right; six at 0.9, all right: 0.4 * 0.1 + 0.6 * 0.1 = 0.1.
    confidence = np.array([0.6] * 4 + [0.9] * 6)
    logits = np.stack([np.log(confidence), np.log(1 - confidence)], axis=1).astype(np.float32)
    report = Report(logits, np.array([0, 0, 1, 1] + [0] * 6), np.arange(10))
    assert report.ece == pytest.approx(0.1, abs=1e-6)
    assert report.calibration()["count"].sum() == 10


def test_a_sure_and_right_network_has_no_calibration_error():
    assert report_of([0, 1, 2], [0, 1, 2]).ece == pytest.approx(0, abs=1e-3)


def test_wilson_interval_matches_published_values():
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(20, 20)[1] == 1.0 and wilson_interval(0, 20)[0] == pytest.approx(0, abs=1e-12)
    report = report_of([0, 0, 1], [0, 0, 0])
    assert report.interval() == wilson_interval(2, 3) and report.interval(0.99)[0] < report.interval()[0]
    with pytest.raises(ValueError, match="level"):
        report.interval(95)


def test_evaluate_leaves_every_variable_unchanged_with_batchnorm_and_dropout():
    model, split = make_model(), make_split()
    model.compile("adam", "mse", metrics=["accuracy"])
    before = [np.array(variable) for variable in model.variables]
    evaluate(model, split, teacher=model, batch_size=16)
    assert len(before) == len(model.variables)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(variable))


@pytest.mark.parametrize("batch_size", [1, 7, 25, 50, 512])
def test_batch_size_does_not_change_the_report(batch_size):
    model, split = make_model(), make_split()
    expected = np.asarray(model(split.images, training=False))
    report = evaluate(model, split, batch_size=batch_size)
    assert report.logits.shape == (50, 5) and report.logits.dtype == np.float32
    np.testing.assert_allclose(report.logits, expected, atol=1e-5)
    assert report.wrong == split.ids[expected.argmax(axis=1) != split.labels].tolist()


def test_memory_mapped_images_are_read(tmp_path):
    split = make_split()
    np.save(tmp_path / "images.npy", split.images)
    mapped = dataclasses.replace(split, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    model = make_model()
    np.testing.assert_array_equal(evaluate(model, mapped).logits, evaluate(model, split).logits)


def test_agreement_with_oneself_is_one_and_logits_serve_as_a_teacher():
    model, split = make_model(), make_split()
    report = evaluate(model, split, teacher=model)
    assert report.agreement == 1.0
    assert evaluate(model, split).agreement is None
    other = make_model(seed=1)
    teacher_logits = evaluate(other, split).logits
    expected = (report.predictions == teacher_logits.argmax(axis=1)).mean()
    assert evaluate(model, split, teacher=teacher_logits).agreement == expected
    assert evaluate(model, split, teacher=other).agreement == expected


def test_to_dict_is_plain_json_with_null_for_a_class_without_images():
    values = json.loads(json.dumps(report_of([0, 1], [0, 1], classes=3).to_dict(), allow_nan=False))
    assert values["per_class"] == [1.0, 1.0, None] and values["size"] == 2 and len(values["interval"]) == 2


def test_a_softmax_head_is_refused_and_the_message_says_why():
    split = make_split()
    with pytest.raises(ValueError, match="model returns probabilities.*logits are expected"):
        evaluate(make_model(activation="softmax"), split)
    with pytest.raises(ValueError, match="teacher returns probabilities"):
        evaluate(make_model(), split, teacher=make_model(activation="softmax"))


def test_bad_splits_labels_and_class_counts_are_refused():
    model, split = make_model(), make_split()
    with pytest.raises(ValueError, match="empty"):
        evaluate(model, Split(*(part[:0] for part in vars(split).values())))
    with pytest.raises(ValueError, match=r"0\.\.4.*got 0\.\.5"):
        evaluate(model, dataclasses.replace(split, labels=np.minimum(np.arange(50), 5)))
    with pytest.raises(ValueError, match="got -1"):
        evaluate(model, dataclasses.replace(split, labels=split.labels - 1 - split.labels.min()))
    with pytest.raises(ValueError, match="5 classes but the teacher has 7"):
        evaluate(model, split, teacher=make_model(classes=7))
    with pytest.raises(ValueError, match="batch_size"):
        evaluate(model, split, batch_size=0)
    with pytest.raises(ValueError, match=r"teacher's logits must have shape \[50, classes\]"):
        evaluate(model, split, teacher=np.ones((49, 5), np.float32))


def test_a_diverged_model_gets_a_clear_error():
    model = make_model()
    model.layers[-1].bias.assign(np.full(5, np.nan))
    with pytest.raises(ValueError, match="diverged"):
        evaluate(model, make_split())


def test_paths_that_are_no_tflite_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.tflite"):
        evaluate(tmp_path / "model.keras", make_split())
    with pytest.raises(FileNotFoundError, match="absent"):
        evaluate(tmp_path / "absent.tflite", make_split())


def test_compare_gives_the_difference_of_the_means_and_an_interval_around_it():
    generator = np.random.default_rng(0)
    size = 4000
    plain = [report_with_right(generator.random(size) < 0.95) for _ in range(3)]
    distilled = [report_with_right(generator.random(size) < 0.97) for _ in range(5)]
    result = compare(distilled, plain)
    means = [np.mean([report.errors for report in group]) for group in (distilled, plain)]
    assert result["errors"] == pytest.approx(means[0] - means[1])
    assert result["difference"] == pytest.approx(-100 * result["errors"] / size)
    assert result["low"] < result["difference"] < result["high"] and result["low"] <= 2.0 <= result["high"]
    assert result["errors_low"] == pytest.approx(-result["high"] * size / 100)
    assert result["excludes_zero"] and (result["seeds_a"], result["seeds_b"], result["test_size"]) == (5, 3, size)


def test_interval_of_compare_is_that_of_an_explicit_bootstrap_and_of_theory():
    generator = np.random.default_rng(1)
    right_a, right_b = generator.random(1500) < 0.9, generator.random(1500) < 0.88
    result = compare(report_with_right(right_a), report_with_right(right_b))
    gains = right_a.astype(float) - right_b
    explicit = 100 * gains[np.random.default_rng(2).integers(0, 1500, (10_000, 1500))].mean(axis=1)
    np.testing.assert_allclose([result["low"], result["high"]], np.quantile(explicit, [0.025, 0.975]), atol=0.1)
    half = 100 * 1.96 * gains.std() / math.sqrt(1500)
    assert (result["high"] - result["low"]) / 2 == pytest.approx(half, rel=0.05)


def test_interval_of_compare_covers_a_known_difference_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        shared = generator.random(600)  # paired: both look at the same image
        result = compare(report_with_right(shared < 0.93), report_with_right(shared < 0.90), resamples=1000)
        covered += result["low"] <= 3.0 <= result["high"]
    assert 180 <= covered <= 199


def test_images_of_one_physical_sign_are_drawn_together():
    generator = np.random.default_rng(5)
    signs = np.repeat(np.arange(60), generator.integers(5, 30, 60))
    right_a, right_b = (np.repeat(generator.random(60) < share, np.bincount(signs)) for share in (0.9, 0.8))

    def gap(groups):
        return compare(*(dataclasses.replace(report_with_right(r), groups=groups) for r in (right_a, right_b)))

    found, alone = gap(signs), gap(None)
    totals, sizes = np.bincount(signs, right_a.astype(int) - right_b), np.bincount(signs)
    drawn = np.random.default_rng(6).integers(0, 60, (10_000, 60))
    explicit = 100 * totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    np.testing.assert_allclose([found["low"], found["high"]], np.quantile(explicit, [0.025, 0.975]), atol=0.5)
    assert found["high"] - found["low"] > 3 * (alone["high"] - alone["low"])
    assert gap(np.arange(len(signs))) == alone and found["difference"] == alone["difference"]


def test_swapping_the_arguments_of_compare_flips_every_sign():
    generator = np.random.default_rng(4)
    a, b = ([report_with_right(generator.random(900) < share) for _ in range(3)] for share in (0.9, 0.93))
    forward, backward = compare(a, b), compare(b, a)
    assert forward["difference"] == -backward["difference"] and forward["errors"] == -backward["errors"]
    assert (forward["low"], forward["high"]) == (-backward["high"], -backward["low"])


def test_compare_of_a_network_with_itself_does_not_exclude_zero():
    report = report_with_right(np.arange(100) % 9 > 0)
    result = compare(report, report)
    assert result["difference"] == result["low"] == result["high"] == 0 and not result["excludes_zero"]


def test_compare_refuses_reports_of_other_images():
    report = report_with_right(np.arange(100) % 9 > 0)
    other = Report(report.logits, report.labels, report.ids + 1)
    with pytest.raises(ValueError, match="different test images"):
        compare(report, other)
    with pytest.raises(ValueError, match="need a report on each side"):
        compare(report, [])


def test_macs_match_numbers_worked_by_hand():
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)  # 8*8 positions * 3*3*3*4
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)  # 4*4 positions * 3*3*4
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, 1, groups=2)(x)  # 4*4 positions * 1*1*2*6
    outputs = layers.Dense(10)(layers.Flatten()(x))  # 96*10
    assert count_macs(keras.Model(inputs, outputs)) == 64 * 108 + 16 * 36 + 16 * 12 + 960


def test_macs_count_nested_models_and_layers_called_twice():
    inner = keras.Sequential([layers.Input((4, 4, 2)), layers.Conv2D(2, 3, padding="same")])  # 16 * 36
    shared = layers.Dense(2)  # 16 * 4 each time
    inputs = layers.Input((4, 4, 2))
    model = keras.Model(inputs, shared(shared(inner(inner(inputs)))))
    assert count_macs(inner) == 16 * 36
    assert count_macs(model) == 2 * 16 * 36 + 2 * 16 * 4


def test_macs_refuse_what_they_cannot_count():
    inputs = layers.Input((None, None, 3))
    with pytest.raises(ValueError, match="fixed size"):
        count_macs(keras.Model(inputs, layers.Conv2D(2, 3)(inputs)))
    inputs = layers.Input((8, 8, 3))
    with pytest.raises(ValueError, match="not counted"):
        count_macs(keras.Model(inputs, layers.SeparableConv2D(2, 3)(inputs)))
    with pytest.raises(ValueError, match="Functional"):
        count_macs(keras.Sequential([layers.Dense(2)]))


def test_params_leave_out_moving_statistics_and_include_frozen_weights():
    model = make_model()
    expected = 3 * 3 * 3 * 4 + 4 + 2 * 4 + 4 * 5 + 5
    assert count_params(model) == expected
    model.trainable = False
    assert count_params(model) == expected


# Temperature scaling


def honest_report(temperature, size=20_000, classes=5, seed=0):
    """Logits whose softmax at `temperature` is exactly how often each class is true."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (size, classes))
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (right.cumsum(axis=1) < generator.random((size, 1))).sum(axis=1)
    return Report((logits * temperature).astype(np.float32), labels, np.arange(size))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_fitted_temperature_is_the_one_that_makes_confidences_honest(temperature):
    report = honest_report(temperature)
    found = fit_temperature(report)
    assert found == pytest.approx(temperature, rel=0.05)
    scaled = report.at_temperature(found)
    assert scaled.ece < 0.015 and scaled.nll <= report.nll + 1e-9
    np.testing.assert_array_equal(scaled.predictions, report.predictions)


def test_a_model_that_is_always_right_has_a_finite_temperature():
    report = Report(np.eye(4, dtype=np.float32) * 3, np.arange(4), np.arange(4))
    assert 0.05 <= fit_temperature(report) < 0.1
