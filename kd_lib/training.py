"""The one recipe by which every network of the course is trained, and `fit_or_load`, which never does it twice.

AdamW with linear warm-up and cosine decay, BatchNorm momentum 0.9, K fixed random views of each image; the rest is
switched on by `Config` where validation says that it helps. A training saves its state after every epoch and goes on
from there. Left out: choosing hyperparameters, and looking at test images.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kd_lib import artifacts, cache, feeding, views
from kd_lib.checkpoint import Checkpoint, StopAtNaN, remove_checkpoint
from kd_lib.checks import check_labels, check_one_device
from kd_lib.distiller import Distiller
from kd_lib.faculty import describe_distiller
from kd_lib.files import lock
from kd_lib.recipe import Config, compile_for, reestimate_batchnorm  # noqa: F401  callers find Config here
from kd_lib.results.environment import environment

VALIDATION_BATCH = 512  # images: nothing is learned from them, so the largest that is still quick


@dataclass
class Run:
    """A finished training: the `model` (None if its weights were not kept), `history` (lists by name, one entry an
    epoch), `seconds` that the training took when it was made, `loaded` (False if it was trained just now), `key`, and
    `teacher_seconds` that the teacher took to answer the views beforehand (0 where it answers while training),
    `distiller` (its settings as a dict, None for plain training) and `environment` (dict: where it was trained)."""

    name: str
    model: keras.Model | None
    history: dict
    seconds: float
    loaded: bool
    key: str
    config: Config
    teacher_seconds: float = 0.0
    distiller: dict | None = None
    environment: dict | None = None


def seeded(seed, builder, *args, **kwargs):
    """Return builder(*args, **kwargs) with Keras' randomness set to `seed`: the same initial weights per seed."""
    keras.utils.set_random_seed(seed)
    return builder(*args, **kwargs)


def fit_or_load(name, model_or_distiller, dataset, config, *, progress=True):
    """Train a model or a distiller as `config` says, or load the result if it was ever made.

    The result is looked for under a key of everything that decides it: the network's layers, the distiller's settings
    and (for a class defined in a notebook) source, the teacher's weights, the data set and `config`. A training that
    was interrupted goes on after its last finished epoch. Weights are kept, and returned, rounded to float16.

    Args:
        name: readable name of the artifact, such as "student-0.25-plain-seed0".
        model_or_distiller: a keras.Model, which is trained on labels, or a `Distiller`, whose student is trained. With
            a teacher and `config.views` a number (or None), the teacher runs once over those views and is cached.
        dataset: from `kd_lib.load_dataset`.
        config: Config.
        progress: print a line that counts epochs.

    Returns:
        Run. Its history has "loss", "accuracy", "val_loss" and "val_accuracy" per epoch, "label_loss" and
        "distillation_loss" where they apply, and "final_val_accuracy" with one entry, for the weights that were kept.

    Raises:
        ValueError: labels outside the model's classes, an empty split, a loss that is not finite, several devices.
        OSError: the result could not be written; what was finished is kept.
    """
    distiller = model_or_distiller
    if not hasattr(distiller, "student"):
        distiller = Distiller(model_or_distiller, alpha=1.0)
    student, teacher = distiller.student, getattr(distiller, "teacher", None)
    check_one_device()
    feeding.check_drawn(dataset, config)
    check_labels(student, dataset)
    if hasattr(distiller, "check_teacher"):
        distiller.check_teacher()
    deaf = float(ops.convert_to_numpy(getattr(distiller, "alpha", 0.0))) == 1  # it hears no teacher
    if config.mixup and (teacher is None or deaf or _of_faculty(distiller, "cached")):
        raise ValueError("mixup has no labels: it needs a distiller whose teacher can be run on the mixtures.")
    artifact = artifacts.Artifact(name, _facts(distiller, student, teacher, dataset, config))
    record = artifact.load(student)
    loaded = record is not None
    if not loaded:
        with lock(artifact.folder):
            record = artifact.load(student)  # another process may have trained it meanwhile
            loaded = record is not None
            if not loaded:
                _check_untrained(student, artifact.folder, config)
                student.was_trained = True  # from here on, also if it is interrupted
                record = _train(artifact, distiller, student, teacher, dataset, config, progress)
                artifact.save(student, record)
    if loaded and progress:
        print(f"{name}: loaded; its training took {record['seconds']:.0f} s")
    remove_checkpoint(artifact.folder)
    student.was_trained = True
    model = student if record["weights"] else None
    return Run(
        name,
        model,
        record["history"],
        record["seconds"],
        loaded,
        artifact.key,
        config,
        record.get("teacher_seconds", 0.0),
        artifact.facts.get("distiller"),
        record.get("environment"),
    )


def _of_faculty(distiller, name):
    """What a `Distiller` knows about its teachers under `name`; () for a class of one's own."""
    return getattr(getattr(distiller, "faculty", None), name, ())


def _check_untrained(student, folder, config):
    """Refuse a network that was trained before: its key would call the result a fresh training."""
    resumes = (folder / "checkpoint.json").exists()  # then its weights are read from there
    named = config.start != "random" or hasattr(student, "starts_from")
    if (getattr(student, "was_trained", False) or _has_seen_images(student)) and not named and not resumes:
        raise ValueError(
            f"{student.name} was trained before. Build it anew and train that, as `seeded` does; or, to train it "
            "further on purpose, say what its weights were: Config(start=kd_lib.artifacts.fingerprint(model), ...)."
        )


def _has_seen_images(student):
    """Whether a BatchNormalization's statistics are no longer those that it begins with."""
    norms = [layer for layer in student._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    means = [ops.convert_to_numpy(norm.moving_mean) for norm in norms]
    return any(np.any(mean != 0) for mean in means)


def _facts(distiller, student, teacher, dataset, config):
    facts = {"dataset": dataset.fingerprint, "model": artifacts.describe_model(student), "config": config.facts()}
    facts |= (views.facts() if config.views is not None else {}) | feeding.drawn_facts(config)
    if config.start == "random" and hasattr(student, "starts_from"):
        facts["starts_from"] = student.starts_from
    if teacher is not None or type(distiller) is not Distiller:
        facts["distiller"] = describe_distiller(distiller)
    if type(distiller) is not Distiller:
        facts["source"] = artifacts.source_of(type(distiller))
    return facts


def _train(artifact, distiller, student, teacher, dataset, config, progress):
    made_with = environment()  # now: a long training may outlive the commit that it began with
    split = feeding.training_split(dataset, config)
    table = feeding.make_table(len(split), config)
    rounds = None if table is None else len(table)
    order = feeding.plan(
        split.labels,
        epochs=config.epochs,
        batch_size=config.batch_size,
        views=rounds,
        balance=config.balance,
        seed=config.seed,
    )
    teacher_logits, teacher_seconds = _cached(distiller, teacher, dataset, split, config, progress)
    compile_for(distiller, config, order.steps_per_epoch)
    stop, checkpoint = StopAtNaN(), Checkpoint(artifact, distiller, config, order.steps_per_epoch, progress)
    feed = feeding.batches(
        split,
        order,
        table,
        strength=config.strength,
        teacher_logits=teacher_logits,
        mixup=config.mixup,
        seed=config.seed,
        first_step=checkpoint.epoch * order.steps_per_epoch,
    )
    validation = feeding.in_order(dataset.validation, VALIDATION_BATCH)
    distiller.fit(
        feed,
        shuffle=False,  # the order is the plan's
        epochs=config.epochs,
        initial_epoch=checkpoint.epoch,
        steps_per_epoch=order.steps_per_epoch,
        validation_data=validation,
        validation_batch_size=VALIDATION_BATCH,
        verbose=0,
        callbacks=[stop, checkpoint],
    )
    if stop.step is None and not all(np.isfinite(weight).all() for weight in student.get_weights()):
        stop.step = order.steps_per_epoch  # the very last one went wrong
    if stop.step is not None:
        rate = float(ops.convert_to_numpy(distiller.optimizer.learning_rate))
        kept = checkpoint.kept()
        raise ValueError(
            f"{artifact.name}: the loss is not a number at step {stop.step} of epoch {checkpoint.epoch}, at a learning "
            f"rate of {rate:.2g}. "
            + (f"The last good state is {kept}. " if kept else "No epoch was finished before. ")
            + f"Try a lower learning rate than {config.learning_rate}."
        )
    if config.ema:
        reestimate_batchnorm(student, feeding.batches(split, order, table, strength=config.strength))
    artifacts.round_weights(student)  # what is kept is what is measured
    final = distiller.evaluate(*validation, VALIDATION_BATCH, verbose=0, return_dict=True)
    checkpoint.history["final_val_accuracy"] = [float(final["accuracy"])]
    return {
        "history": checkpoint.history,
        "seconds": checkpoint.seconds,
        "teacher_seconds": teacher_seconds,
        "weights": config.keep_weights,
        "environment": made_with,
    }


def _cached(distiller, teacher, dataset, split, config, progress):
    """Return (the answers that this training reads, [views, n, (teachers,) classes], or None; seconds they took)."""
    several = teacher if isinstance(teacher, tuple) else () if teacher is None else (teacher,)
    kept = [one for one in several if isinstance(one, cache.CachedLogits)]
    if kept and config.views == "online":
        raise ValueError('Cached logits are answers to fixed views; views="online" needs the teacher itself.')
    for one in kept:
        one.check(cache.facts_of(dataset, config), len(split))
    if not several or config.views == "online" or _of_faculty(distiller, "pairs"):
        return None, 0.0  # features come from the teacher itself, and its logits with them
    found = [
        one if isinstance(one, cache.CachedLogits) else cache.cache_logits(one, dataset, config, progress=progress)
        for one in several
    ]
    logits = found[0].logits if len(found) == 1 else np.stack([one.logits for one in found], axis=2)
    return logits, sum(one.seconds for one in found)
