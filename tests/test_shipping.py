"""Tests of kd_lib.shipping, kd_lib.no_signs and course.quantized: an honest file with its facts and its card."""

import dataclasses
import re

import numpy as np
import pytest

import kd_lib
from kd_lib import course, evaluation, litert, no_signs, results, shipping, signs
from kd_lib.builders import layouts
from kd_lib.recognition import SHIPPED, Recognizer
from kd_lib.scale import REPOSITORY, Scale, home
from kd_lib.training import Run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The course's chain at the smallest scale: teacher (a student of another seed), student, 8-bit twin, file."""
    scale = Scale.named("smoke", home_folder=tmp_path_factory.mktemp("home"))
    dataset = kd_lib.load_dataset("signs", limit=86)
    teacher = dataclasses.replace(course.plain(dataset, scale, seed=1), name="teacher")
    student = course.distilled(dataset, scale, 0, teacher)
    run = course.quantized(dataset, scale, student, teacher)
    path = tmp_path_factory.mktemp("file") / "signs.tflite"
    return scale, dataset, teacher, student, run, path, shipping.ship(run, dataset, path)


def test_the_twin_learned_from_the_students_weights_and_is_loaded_the_second_time(made):
    scale, dataset, teacher, student, run, _, _ = made
    assert isinstance(run, Run) and run.config.start != "random" and run.config.epochs < student.config.epochs
    again = course.quantized(dataset, scale, student, teacher)
    assert again.loaded and again.key == run.key


def test_facts_are_inside_the_file_and_fitted_on_validation_images(made):
    _, dataset, _, _, run, path, facts = made
    recognizer = Recognizer(path)
    assert recognizer.class_names == dataset.class_names == tuple(facts["class_names"])
    report = evaluation.evaluate(path, dataset.validation)
    assert recognizer.temperature == pytest.approx(evaluation.fit_temperature(report), abs=1e-3)
    confidence = report.at_temperature(recognizer.temperature).confidence
    assert np.mean(confidence < recognizer.threshold) <= 2 * shipping.REJECTED_SIGNS
    np.testing.assert_allclose(
        litert.Classifier(path).predict(dataset.test.images[:20]),
        run.model.predict(dataset.test.images[:20], verbose=0),
        atol=0.1,
    )


def test_confidences_stay_as_they_are_where_validation_has_no_error(made, tmp_path):
    _, dataset, _, _, run, path, _ = made
    answers = evaluation.evaluate(path, dataset.validation).predictions.astype(dataset.validation.labels.dtype)
    easy = dataclasses.replace(dataset, validation=dataclasses.replace(dataset.validation, labels=answers))
    assert shipping.ship(run, easy, tmp_path / "easy.tflite")["temperature"] == 1.0


def test_attaching_facts_again_replaces_them_and_leaves_the_network(made, tmp_path):
    path = tmp_path / "again.tflite"
    path.write_bytes(made[5].read_bytes())
    litert.attach(path, {"threshold": 0.25})
    litert.attach(path, {"threshold": 0.75})
    assert litert.Classifier(path).facts == {"threshold": 0.75} and path.stat().st_size < made[5].stat().st_size
    images = made[1].test.images[:5]
    np.testing.assert_array_equal(litert.Classifier(path).predict(images), litert.Classifier(made[5]).predict(images))
    litert.attach(path, made[6])
    assert path.read_bytes() == made[5].read_bytes()


def test_the_card_repeats_what_was_measured(made):
    scale, dataset, teacher, _, run, path, facts = made
    report, numbers = shipping.measure(path, dataset, teacher=teacher.model)
    assert set(numbers["accepted"]) == set(no_signs.KINDS)
    names = {"model": "student-0.25-int8", "method": "kd", "command": "the command"}
    names |= {"teacher": teacher.name, "bytes": path.stat().st_size}
    row = course.row_of(run, report, dataset, scale, **names)
    assert row["bytes"] == path.stat().st_size and row["test_errors"] == report.errors and row["agreement"] is not None
    float_row = row | {"test_accuracy": 0.875, "test_errors": 11, "epochs": 7, "seconds": 120.0}
    shipping.write_card(path, row, numbers, report, dataset.class_names, facts, float_row)
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    for expected in (
        f"{row['test_accuracy']:.2%} ({row['test_errors']} errors of 86 images",
        f"{row['bytes'] / 1e3:,.1f} kB, int8",
        f"divided by {facts['temperature']}",
        f"{numbers['ece_before']:.4f} before, {numbers['ece']:.4f} after",
        f"below a confidence of {facts['threshold']}",
        f"{numbers['accepted']['noise']:.1%} of noise",
        f"| 14 | Stop | {report.per_class[14]:.1%} |",
        "`the command`",
        "| teacher | teacher |",
        "| the same in float32 | 87.50% (11 errors), trained for 7 epochs, 2 min, before the 1 with rounding |",
    ):
        assert expected in text


# The student that comes with the package


@pytest.fixture(scope="module")
def row():
    """The results row of the shipped file: the int8 row that its card was written from."""
    if not SHIPPED.exists():
        pytest.skip("no student ships yet")
    errors = re.search(r"\((\d+) errors of 12,630 images", SHIPPED.with_suffix(".md").read_text(encoding="utf-8"))
    rows = results.load(REPOSITORY / "figures" / "results.json")["rows"]
    wanted = {"test_errors": int(errors[1]), "dataset": "gtsrb", "bytes": SHIPPED.stat().st_size}
    (found,) = (row for row in rows if wanted.items() <= row.items() and row["model"].endswith("-int8"))
    return found


def test_the_shipped_student_is_small_and_has_its_row(row):
    assert SHIPPED.stat().st_size <= 100_000
    assert row["scale"] == "full" and row["command"] in SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    facts = litert.Classifier(SHIPPED).facts
    assert tuple(facts["class_names"]) == signs.CLASS_NAMES and 0 < facts["threshold"] < 1 and facts["temperature"] > 0


@pytest.mark.skipif(
    not all((home() / "archives" / archive.name).exists() for archive in layouts.GTSRB.archives),
    reason="no GTSRB archives",
)
def test_the_shipped_student_errs_on_the_photographs_that_its_row_names(row):
    dataset = kd_lib.load_dataset("gtsrb", image_size=row["image_size"], crop=row["crop"])
    wrong = evaluation.evaluate(SHIPPED, dataset.test).wrong
    assert len(set(wrong) ^ set(row["wrong"])) <= 5, "other processors may round a near tie in another way"


# Pictures without a sign


@pytest.mark.parametrize("kind", no_signs.KINDS)
def test_pictures_without_a_sign_are_many_kinds_of_seeded_images(kind):
    one, same, other = (no_signs.draw(kind, 50, image_size=16, seed=seed) for seed in (0, 0, 1))
    assert one.shape == (50, 16, 16, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.5
    means = one.reshape(50, -1).mean(axis=1)
    assert means.std() > 20, "they must differ in light"


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of backgrounds, noise, textures. Received: 'dogs'"):
        no_signs.draw("dogs", 1)


def test_an_empty_place_is_the_photograph_without_its_sign():
    arguments = ([14] * 8, range(8), [29] * 8)
    full, empty = (signs.render(*arguments, image_size=48, empty=empty).astype(int) for empty in (False, True))
    changed = np.abs(full - empty).max(axis=3) > 12
    assert changed[:, 16:32, 16:32].mean() > 0.5, "the sign stood in the middle"
    assert changed[:, [0, -1]].mean() < 0.1, "beside it nothing changes"
