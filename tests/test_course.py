"""Tests of kd_lib.course: the notebooks write out the very trainings that it stands for."""

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd_lib import course, feeding, models, views
from kd_lib.artifacts import SHIPPED, describe_model, key_of
from kd_lib.scale import Scale
from kd_lib.training import Config, seeded

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SCALES = [("smoke", "signs"), ("laptop", "signs"), ("laptop", "gtsrb"), ("full", "gtsrb")]


def statement(notebook, beginning):
    """The one top-level statement of a notebook's code cells that begins so."""
    cells = json.loads((NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for source in sources for node in ast.parse(source).body]
    (found,) = [node for node in nodes if ast.unparse(node).startswith(beginning)]
    return found


def run(nodes, **names):
    """Run some statements and return the names they leave."""
    exec(compile(ast.Module(nodes, []), "notebook", "exec"), names)
    return names


@pytest.mark.parametrize("scale", SCALES, ids="-".join)
def test_notebook_02_trains_the_courses_teacher(scale):
    scale = Scale.named(scale[0], data=scale[1])
    assignment = statement("02_train_teacher.ipynb", "config = Config(")
    assert run([assignment], Config=Config, scale=scale)["config"] == course.teacher_config(scale)


@pytest.mark.parametrize("scale", SCALES, ids="-".join)
def test_notebook_03_trains_the_courses_students(scale):
    scale = Scale.named(scale[0], data=scale[1])
    recipe = statement("03_train_plain_student.ipynb", "def recipe(")
    found = run([recipe], Config=Config, scale=scale)["recipe"]
    assert [found(seed) for seed in (0, 2)] == [course.student_config(scale, seed) for seed in (0, 2)]


def test_the_shipped_teacher_is_the_one_that_laptop_scale_on_gtsrb_looks_for():
    folders = list(SHIPPED[1].glob("teacher-*"))
    if not folders:
        pytest.skip("no teacher ships yet")
    (folder,) = folders
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert folder.name == f"teacher-{key_of(facts)}"
    for scale in (Scale.named(name, data="gtsrb") for name in ("laptop", "full")):
        config = course.teacher_config(scale)
        size = {"stream_width": scale.teacher_width, "downsample": True, "cells": scale.teacher_cells}
        now = {"config": config.facts(), "model": describe_model(seeded(0, models.teacher, 43, 32, **size))}
        now |= {"dataset": facts["dataset"]} | views.facts() | feeding.drawn_facts(config)
        assert json.loads(json.dumps(now)) == facts, "its network, recipe, drawn signs or views were changed since"
    assert (folder / "weights.npz").stat().st_size <= 4e6 and (folder / "README.md").exists()


def test_students_are_named_by_their_width():
    assert [course.student_name(width) for width in (0.25, 0.5, 1)] == ["student-0.25", "student-0.5", "student-1.0"]


def test_what_a_refitted_teacher_teaches_is_refitted_too(monkeypatch):
    seen = []

    def noted(name, model, dataset, config):
        seen.append(config)
        return SimpleNamespace(name=name, model=model, config=config)

    monkeypatch.setattr(course, "fit_or_load", noted)
    scale, dataset = Scale.named("smoke"), SimpleNamespace(num_classes=3, image_size=16)
    for refit in (False, True):
        teacher = course.teacher(dataset, scale, refit=refit)
        course.distilled(dataset, scale, 0, teacher)
        course.sparse(dataset, scale, 0, teacher)
        course.plain(dataset, scale, 0, refit=refit)
    assert [config.refit for config in seen] == [False] * 4 + [True] * 4
