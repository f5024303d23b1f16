"""The Distiller that notebook 04 writes before the reader's eyes and `kd_lib.Distiller` are one and the same.

The class and the loss that it calls are taken out of the committed notebook and trained beside the library's, step by
step, from the same start. The comparison is shown to notice mistakes: it is repeated with defective versions, each made
from the notebook's source by one replacement.
"""

import ast
import functools
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
nbformat = pytest.importorskip("nbformat")
if keras.backend.backend() != "tensorflow":
    pytest.skip("the notebook's train_step is written for TensorFlow", allow_module_level=True)

import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

import kd_lib  # noqa: E402

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "04_distill.ipynb"
CLASSES, SIZE, BATCH, STEPS = 5, 8, 16, 4
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(1e-2),
}
DEFECTS = {
    "T² forgotten": ("temperature**2 * ops.sum", "ops.sum"),
    "mean over classes": ("temperature**2 * ops.sum", "temperature**2 * ops.mean"),
    "temperature forgotten in the student": ("student_logits / temperature", "student_logits"),
    "divergence turned round": ("ops.exp(log_p) * (log_p - log_q)", "ops.exp(log_q) * (log_q - log_p)"),
    "labels weighed by 1 - alpha": ("self.alpha * label_loss", "(1 - self.alpha) * label_loss"),
    "student in inference mode": ("self.student(images, training=True)", "self.student(images, training=False)"),
    "teacher in training mode": ("teacher(images, training=False)", "teacher(images, training=True)"),
    "probabilities taken for logits": ("from_logits=True", "from_logits=False"),
}


@pytest.fixture(scope="module")
def source():
    """The cells of notebook 04 that define the loss and the class, as one text."""
    wanted, found = {"distillation_loss", "Distiller"}, {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in wanted:
                assert node.name not in found, f"{node.name} is defined twice in {NOTEBOOK.name}"
                found[node.name] = ast.get_source_segment(cell.source, node)
    assert set(found) == wanted, f"{NOTEBOOK.name} defines only {sorted(found)}"
    return "\n\n\n".join(found.values())


def class_from(source):
    namespace = {"keras": keras, "tf": tf, "ops": keras.ops}
    exec(compile(source, NOTEBOOK.name, "exec"), namespace)
    return namespace["Distiller"]


def data(images=BATCH * STEPS):
    generator = np.random.default_rng(0)
    return (
        generator.integers(0, 256, (images, SIZE, SIZE, 3)).astype(np.uint8),
        generator.integers(0, CLASSES, images).astype(np.int32),
    )


def network(width, seed):
    """A small classifier with BatchNorm, so that training and inference mode differ."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 64.0, offset=-2.0),
            layers.Flatten(),
            layers.Dense(width, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dense(CLASSES),
        ]
    )


def new_student():
    return network(8, seed=0)


def new_teacher():
    """A teacher with large logits and BatchNorm statistics of its own: its mode and the temperature then matter."""
    teacher = network(32, seed=1)
    teacher.layers[-1].kernel.assign(5 * teacher.layers[-1].kernel)
    teacher(data()[0], training=True)
    return teacher


def trained(distiller_class, optimizer, *, alpha=0.3, temperature=3.0):
    """Metrics and all the student's weights after each of a few steps, then the evaluation."""
    student = new_student()
    distiller = distiller_class(student, new_teacher(), alpha=alpha, temperature=temperature)
    distiller.compile(OPTIMIZERS[optimizer](), run_eagerly=optimizer == "sgd")  # eager steps: no graph to wait for
    images, labels = data()
    steps = []
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        history = distiller.fit(images[rows], labels[rows], batch_size=BATCH, verbose=0).history
        steps.append(({name: values[0] for name, values in history.items()}, student.get_weights()))
    return steps, distiller.evaluate(images, labels, verbose=0, return_dict=True)


def difference(first, second):
    """The largest difference in any metric or weight, over all steps."""
    largest = 0.0
    for (metrics_a, weights_a), (metrics_b, weights_b) in zip(first, second, strict=True):
        assert set(metrics_a) == set(metrics_b) == {"loss", "label_loss", "distillation_loss", "accuracy"}
        largest = max(largest, *(abs(metrics_a[name] - metrics_b[name]) for name in metrics_a))
        largest = max(largest, *(np.abs(a - b).max() for a, b in zip(weights_a, weights_b, strict=True)))
    return largest


@functools.cache
def library(optimizer):
    return trained(kd_lib.Distiller, optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_notebook_and_library_give_the_same_losses_and_weights_at_every_step(source, optimizer):
    steps, evaluation = library(optimizer)
    notebook_steps, notebook_evaluation = trained(class_from(source), optimizer)
    assert difference(notebook_steps, steps) < 1e-5
    for name in ("label_loss", "accuracy"):
        assert notebook_evaluation[name] == pytest.approx(evaluation[name], abs=1e-5)
    assert "distillation_loss" not in notebook_evaluation


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_comparison_notices_a_defective_version(source, defect):
    right, wrong = DEFECTS[defect]
    assert right in source, f"the notebook's source no longer holds {right!r}: adapt the defect"
    steps, _ = trained(class_from(source.replace(right, wrong)), "sgd")
    assert difference(steps, library("sgd")[0]) > 1e-2


def test_only_the_student_is_trained_and_saved(source):
    teacher, student = new_teacher(), new_student()
    before = teacher.get_weights()
    distiller = class_from(source)(student, teacher)
    distiller.compile("adam", run_eagerly=True)
    distiller.fit(*data(), batch_size=BATCH, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))
    assert {id(v) for v in distiller.trainable_variables} == {id(v) for v in student.trainable_variables}
    assert {id(v) for v in distiller.variables}.isdisjoint(id(v) for v in teacher.variables)


def test_evaluation_asks_no_teacher(source):
    distiller = class_from(source)(new_student(), new_teacher())
    distiller.compile("sgd", run_eagerly=True)

    def refuse(images):
        raise AssertionError("the teacher was asked")

    distiller.ask_teacher = refuse
    before = distiller.student.get_weights()
    assert set(distiller.evaluate(*data(), verbose=0, return_dict=True)) == {"label_loss", "accuracy"}
    assert all(np.array_equal(a, b) for a, b in zip(before, distiller.student.get_weights(), strict=True))
