"""The standard trainings of the course, so that every notebook means the same network by "the teacher".

Each function trains or loads one network with the amounts of a `Scale`; `report` measures it once on the test images
and writes its row. Notebooks 02, 03 and 04 write these calls out where they teach them. Left out: anything to be
chosen.
"""

import dataclasses
import math
from dataclasses import asdict

import numpy as np

from kd_lib import evaluation, models, pruning, quantization, results
from kd_lib.datasets import load_dataset
from kd_lib.distiller import Distiller
from kd_lib.keys import fingerprint, key_of
from kd_lib.training import Config, fit_or_load, seeded

WIDTH = 0.25  # of the course's main student


def student_name(width=WIDTH):
    """Return what results call a student: "student-0.25", "student-1.0"."""
    return f"student-{float(width)}"


def teacher_dataset(dataset, scale):
    """Return the Dataset that the teacher learns from: `dataset`, or at laptop scale more training images beside the
    same others; on GTSRB all of them, since the teacher that ships with the package is taken."""
    if scale.teacher_limit == scale.limit:
        return dataset
    same = {"image_size": dataset.image_size, "crop": dataset.crop, "seed": dataset.seed}
    more = load_dataset(scale.data, limit=scale.teacher_limit, **same)
    return dataclasses.replace(more, validation=dataset.validation, test=dataset.test)


def teacher_config(scale, refit=False):
    """Return the Config of the teacher."""
    return Config(
        epochs=scale.teacher_epochs,
        batch_size=scale.teacher_batch_size,
        learning_rate=2e-3,
        balance=0.5,
        views="online",
        strength=scale.teacher_strength,
        drawn=scale.teacher_drawn,
        refit=refit,
    )


def teacher(dataset, scale, *, refit=False):
    """Return the Run of the two-stream dense teacher; with `refit`, of one that learns from validation images too."""
    size = {"stream_width": scale.teacher_width, "downsample": True, "cells": scale.teacher_cells}
    network = seeded(0, models.teacher, dataset.num_classes, dataset.image_size, **size)
    return fit_or_load("teacher", network, teacher_dataset(dataset, scale), teacher_config(scale, refit))


def student_config(scale, seed, refit=False):
    """Return the Config that plain and distilled students share."""
    return Config(
        epochs=scale.epochs,
        batch_size=scale.batch_size,
        label_smoothing=0.1,
        balance=0.5,
        views=scale.views,
        drawn=scale.drawn,
        seed=seed,
        refit=refit,
    )


def new_student(dataset, seed, width=WIDTH):
    """Return an untrained student: the same initial weights for the same seed."""
    return seeded(seed, models.student, dataset.num_classes, dataset.image_size, width=width)


def plain(dataset, scale, seed, width=WIDTH, *, refit=False):
    """Return the Run of a student that learns from labels alone."""
    name = f"{student_name(width)}-plain-seed{seed}"
    return fit_or_load(name, new_student(dataset, seed, width), dataset, student_config(scale, seed, refit))


def distilled(dataset, scale, seed, teacher_run, width=WIDTH):
    """Return the Run of a student that learns from labels and from `teacher_run.model`: from validation images too if
    the teacher did."""
    distiller = Distiller(
        new_student(dataset, seed, width), teacher_run.model, alpha=scale.alpha, temperature=scale.temperature
    )
    name = f"{student_name(width)}-kd-from-{teacher_run.name}-seed{seed}"
    return fit_or_load(name, distiller, dataset, student_config(scale, seed, teacher_run.config.refit))


def committee(dataset, scale, width=WIDTH, *, refit=False):
    """Return the Run of the plain students of all seeds as one network: a teacher that costs no training of its own.

    Its `seconds` are those of its members, its `key` stands for theirs.
    """
    runs = [plain(dataset, scale, seed, width, refit=refit) for seed in scale.seeds]
    model = models.committee([run.model for run in runs])
    accuracy = evaluation.evaluate(model, dataset.validation).accuracy
    return dataclasses.replace(
        runs[0],
        name="committee" if width == WIDTH else f"committee-{float(width)}",
        model=model,
        history={"final_val_accuracy": [accuracy]},
        seconds=sum(run.seconds for run in runs),
        key=key_of([run.key for run in runs]),
    )


def sparse(dataset, scale, seed, teacher_run, width=WIDTH, strength=1e-4):
    """Return the Run of a distilled student whose BatchNorm scales are kept small, so that channels can go."""
    student = pruning.sparse(new_student(dataset, seed, width), strength)
    distiller = Distiller(student, teacher_run.model, alpha=scale.alpha, temperature=scale.temperature)
    config = student_config(scale, seed, teacher_run.config.refit)
    return fit_or_load(f"{student_name(width)}-sparse-seed{seed}", distiller, dataset, config)


def pruned(dataset, scale, sparse_run, fraction, teacher_run=None):
    """Return the Run of what is left of a sparse student, trained on for a while: from the teacher, or from labels.

    Args:
        dataset: Dataset.
        scale: Scale.
        sparse_run: Run, from `sparse`.
        fraction: share of the channels that goes, 0 to below 1.
        teacher_run: Run of the teacher, or None to learn from labels alone.
    """
    smaller = pruning.prune_channels(sparse_run.model, fraction)
    config = dataclasses.replace(
        sparse_run.config,
        epochs=scale.prune_epochs,
        learning_rate=sparse_run.config.learning_rate / 4,
        start=fingerprint(smaller),
    )
    learner, method = smaller, "plain"
    if teacher_run is not None:
        method = "kd"
        learner = Distiller(smaller, teacher_run.model, alpha=scale.alpha, temperature=scale.temperature)
    name = sparse_run.name.replace("sparse", f"pruned-{100 * fraction:.0f}-{method}")
    return fit_or_load(name, learner, dataset, config)


def representative(dataset, count=1000):
    """Return training images that stand for all: the ranges of activations are theirs.

    Args:
        dataset: Dataset.
        count: number of images, at most those that there are.

    Returns:
        uint8 [count, h, w, 3].
    """
    places = np.random.default_rng(0).permutation(len(dataset.train))[:count]
    return dataset.train.images[np.sort(places)]


def quantized(dataset, scale, student_run, teacher_run):
    """Return the Run of a student's 8-bit twin, which learns a quarter as long from the same teacher."""
    aware = quantization.quantize_aware(student_run.model, representative(dataset))
    config = dataclasses.replace(
        student_run.config,
        epochs=max(1, student_run.config.epochs // 4),
        learning_rate=student_run.config.learning_rate / 10,
        start=fingerprint(student_run.model),
    )
    distiller = Distiller(aware, teacher_run.model, alpha=scale.alpha, temperature=scale.temperature)
    return fit_or_load(f"{student_run.name}-int8", distiller, dataset, config)


def report(run, dataset, scale, *, model, method, teacher=None, weights=None, test_data=None, command=None):
    """Measure a final model on the test images, once, and write its row to `scale.results`.

    Args:
        run: Run, with its model.
        dataset: the Dataset that it was trained on.
        scale: Scale.
        model, method: names in the row, such as "student-0.25" and "kd".
        teacher: Run of the teacher, for the agreement; it is named in the row unless `method` is "plain".
        weights: what a pretrained backbone started from: the network's own, or its teacher's.
        test_data: another Dataset whose test images are used; the row names both.
        command: what repeats it; None for `python -m kd_lib run`.

    Returns:
        Report.
    """
    tested = test_data or dataset
    found = evaluation.evaluate(run.model, tested.test, teacher=None if teacher is None else teacher.model)
    row = row_of(
        run,
        found,
        dataset,
        scale,
        model=model,
        method=method,
        teacher=None if teacher is None or method == "plain" else teacher.name,
        tested_on=dataset.name if test_data is None else f"{dataset.name} to {test_data.name}",
        bytes=2 * sum(math.prod(weight.shape) for weight in run.model.weights),
        weights=weights,
        command=("" if weights is None else f"KD_MOBILENET={weights} ")
        + (command or f"python -m kd_lib run --data {scale.data}")
        + f" --scale {scale.name}",
    )
    results.append(row, scale.results)
    return found


def row_of(run, report, dataset, scale, *, tested_on=None, **fields):
    """Return the results row of a Run: what Run, Dataset and Scale say, and `fields` for the rest.

    Args:
        run: Run, with its model.
        report: Report of the test images.
        dataset: the Dataset that it was trained on.
        scale: Scale.
        tested_on: what the row calls the data; None for the dataset's name.
        **fields: "model", "method", "teacher", "bytes", "command" and others of `results.FIELDS`.

    Returns:
        dict, checked.
    """
    return results.make_row(
        report=report,
        dataset=tested_on or dataset.name,
        crop=dataset.crop,
        image_size=dataset.image_size,
        scale=scale.name,
        seed=run.config.seed,
        epochs=run.config.epochs,
        params=evaluation.count_params(run.model),
        macs=evaluation.count_macs(run.model),
        validation_accuracy=run.history["final_val_accuracy"][-1],
        refit=run.config.refit,
        config=asdict(run.config) | {"key": run.key} | ({"distiller": run.distiller} if run.distiller else {}),
        seconds=round(run.seconds, 1),
        **(run.environment or {}),  # where it was trained, which may be another machine
        **fields,
    )
