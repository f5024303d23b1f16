"""*Beat the student*: twelve drawn signs, shrunk and blurred, for the reader of notebook 01 and the networks of 04.

The questions are the same twelve images everywhere, at every scale, and show signs that no data set of the course
contains. Networks receive them as they are: 32 x 32 pixels, 0..255. The reader's answers wait in a small JSON file
until notebook 04 settles the match. Nothing here marks them: notebook 01 must not give the solution away.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from kd_lib import signs
from kd_lib.files import write_json
from kd_lib.scale import home

QUESTIONS = 12
SEED = 5
CANDIDATES = 8  # signs drawn of a class, of which the clearest is asked
SIDE = 11  # pixels that are left of a sign's image before it is enlarged again
FILE = "beat_the_student.json"


def questions():
    """Draw the twelve questions: different classes, one physical sign each, blurred by shrinking and enlarging.

    Returns:
        images uint8 [12, 32, 32, 3] and labels int32 [12]; the same in every call.
    """
    # RandomState: NumPy promises its numbers for ever, default_rng's may change with a new version.
    labels = np.random.RandomState(SEED).permutation(len(signs.CLASS_NAMES))[:QUESTIONS].astype(np.int32)
    return np.stack([_question(label) for label in labels]), labels


def _question(label):
    """The sign with the most contrast of several of a class, blurred: shrinking makes it hard, not the night."""
    tracks, frames = np.arange(CANDIDATES), np.full(CANDIDATES, signs.FRAMES - 1)
    sharp = signs.render(np.full(CANDIDATES, label), tracks, frames, seed=SEED)
    chosen = sharp[sharp[:, 10:22, 10:22].mean(axis=3).std(axis=(1, 2)).argmax()]
    small = Image.fromarray(chosen).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small.resize(chosen.shape[1::-1], Image.Resampling.BICUBIC))


def save_answers(answers, folder=None):
    """Keep the reader's answers for notebook 04; a sheet without any answer never replaces a filled one.

    Args:
        answers: twelve class numbers (0..42); None where the reader has no answer.
        folder: where to write `beat_the_student.json`; None: KD_HOME.

    Returns:
        int, how many questions were answered.

    Raises:
        ValueError: not twelve answers, or one that is no class number.
    """
    answers = _checked(answers)
    answered = sum(answer is not None for answer in answers)
    if answered:
        path = _path(folder)
        write_json(path, answers)
    return answered


def load_answers(folder=None):
    """Read the reader's answers.

    Args:
        folder: as for `save_answers`.

    Returns:
        list of twelve class numbers or None, or None if the reader has not answered yet.

    Raises:
        ValueError: the file does not hold twelve answers; says which file to remove.
    """
    path = _path(folder)
    if not path.exists():
        return None
    try:
        return _checked(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} holds no answers ({error}): remove it and run notebook 01 again") from error


def _path(folder):
    return Path(folder or home()) / FILE


def _checked(answers):
    if not isinstance(answers, list | tuple) or len(answers) != QUESTIONS:
        raise ValueError(f"need a list of {QUESTIONS} answers; received {answers!r}")
    last = len(signs.CLASS_NAMES) - 1
    for place, answer in enumerate(answers, start=1):
        number = isinstance(answer, int | np.integer) and not isinstance(answer, bool)
        if answer is not None and not (number and 0 <= answer <= last):
            raise ValueError(f"answer {place} must be a class number 0..{last}, or None; received {answer!r}")
    return [None if answer is None else int(answer) for answer in answers]
