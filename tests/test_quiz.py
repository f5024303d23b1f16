import inspect
import json
import subprocess
import sys

import numpy as np
import pytest

from kd_lib import quiz, signs

ANSWERS = [0, 1, None, 42, *range(8)]


def test_there_are_twelve_images_of_twelve_classes():
    images, labels = quiz.questions()
    assert images.shape == (12, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (12,) and labels.dtype == np.int32
    assert len(set(labels.tolist())) == 12 and 0 <= labels.min() and labels.max() < len(signs.CLASS_NAMES)


def test_a_new_process_asks_the_same_questions_and_needs_no_tensorflow():
    code = (
        "import sys; from kd_lib import quiz; images, labels = quiz.questions();"
        "sys.stdout.buffer.write(images.tobytes() + labels.tobytes());"
        "assert 'tensorflow' not in sys.modules"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    images, labels = quiz.questions()
    assert fresh == images.tobytes() + labels.tobytes()


def test_questions_are_blurred():
    """They hold far less fine detail than sharp images of the same classes."""
    images, labels = quiz.questions()
    sharp = signs.render(labels, np.zeros(12, int), np.full(12, 29), seed=quiz.SEED)

    def detail(values):
        grey = values.astype(np.float32).mean(axis=3)
        return np.abs(np.diff(grey, n=2, axis=2)).mean(axis=(1, 2)) / grey.std(axis=(1, 2))

    assert np.median(detail(images)) < 0.6 * np.median(detail(sharp))


def test_questions_are_lit_well_enough_to_be_seen():
    images, _ = quiz.questions()
    assert (images[:, 8:24, 8:24].mean(axis=3).std(axis=(1, 2)) > 10).all()


def test_questions_show_signs_that_are_in_no_data_set():
    """The data sets of the course are drawn with the default seed."""
    assert inspect.signature(signs.render).parameters["seed"].default != quiz.SEED
    _, labels = quiz.questions()
    own, public = (
        signs.render(labels.repeat(50), np.tile(range(50), 12), np.full(600, 29), seed=seed) for seed in (quiz.SEED, 0)
    )
    assert not {image.tobytes() for image in own} & {image.tobytes() for image in public}


def test_answers_come_back_as_they_were_given(tmp_path):
    assert quiz.save_answers(ANSWERS, tmp_path / "new") == 11
    assert quiz.load_answers(tmp_path / "new") == ANSWERS
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["beat_the_student.json"]


def test_numpy_answers_are_accepted(tmp_path):
    quiz.save_answers(list(np.arange(12)), tmp_path)
    assert json.loads((tmp_path / quiz.FILE).read_text()) == list(range(12))


def test_without_answers_there_is_none(tmp_path):
    assert quiz.load_answers(tmp_path) is None


def test_an_empty_sheet_does_not_replace_a_filled_one(tmp_path):
    assert quiz.save_answers([None] * 12, tmp_path) == 0
    assert quiz.load_answers(tmp_path) is None
    quiz.save_answers(ANSWERS, tmp_path)
    quiz.save_answers([None] * 12, tmp_path)
    assert quiz.load_answers(tmp_path) == ANSWERS


def test_the_folder_is_kd_home_unless_given(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    quiz.save_answers(ANSWERS)
    assert (tmp_path / quiz.FILE).exists() and quiz.load_answers() == ANSWERS


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (ANSWERS[:11], "list of 12 answers"),
        ("0123456789ab", "list of 12 answers"),
        ([43, *ANSWERS[1:]], r"answer 1 must be a class number 0\.\.42, or None; received 43"),
        ([*ANSWERS[:11], "Stop"], "answer 12 must be a class number"),
        ([True, *ANSWERS[1:]], "answer 1 must be"),
        ([1.5, *ANSWERS[1:]], "answer 1 must be"),
    ],
)
def test_bad_answers_say_what_is_wrong_and_keep_the_old_ones(tmp_path, answers, message):
    quiz.save_answers(ANSWERS, tmp_path)
    with pytest.raises(ValueError, match=message):
        quiz.save_answers(answers, tmp_path)
    assert quiz.load_answers(tmp_path) == ANSWERS


@pytest.mark.parametrize("text", ["", "[1, 2", "[1, 2]", '{"answers": 3}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / quiz.FILE).write_text(text)
    with pytest.raises(ValueError, match="remove it and run notebook 01 again"):
        quiz.load_answers(tmp_path)
