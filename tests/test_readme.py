"""What the README shows in code runs as it stands, and every file that it names is there."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from kd_lib import models, results

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def code(word):
    """The Python block of the README that holds a word."""
    (found,) = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.S) if word in block]
    return found


def small_networks():
    return models.student(43, width=1 / 16), models.teacher(43, stream_width=2, downsample=True)


def test_the_example_of_a_distillation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student, teacher = small_networks()
    images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    names = {"student": student, "teacher": teacher, "images": images, "labels": labels}
    exec(code("student.save").replace("epochs=20", "epochs=1"), names | {"more_images": images, "more_labels": labels})
    assert keras.models.load_model(tmp_path / "student.keras").count_params() == student.count_params()


def test_the_examples_of_teachers_losses_and_features_run():
    student, teacher = small_networks()
    made = []

    def distiller(*arguments, **options):
        from kd_lib import Distiller

        made.append(Distiller(*arguments, **options))

    exec(
        code("teacher_weights"),
        {"Distiller": distiller, "student": student, "teacher": teacher, "one": teacher, "another": teacher},
    )
    assert len(made) == 3


def test_the_table_is_that_of_the_committed_results():
    found = results.load(ROOT / "figures" / "results.json")
    shown = TEXT.split(results.BEGIN)[1].split(results.END)[0].strip()
    assert shown == results.table(found["rows"], found["comparisons"])


@pytest.mark.parametrize("place", sorted(set(re.findall(r"\]\(((?!http|#)[^)]+)\)", TEXT))))
def test_what_the_readme_links_to_is_there(place):
    assert (ROOT / place).exists()
