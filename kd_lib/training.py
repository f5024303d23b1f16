"""The one recipe by which every network of the course is trained, and `fit_or_load`, which never does it twice.

AdamW with linear warm-up and cosine decay, BatchNorm momentum 0.9, K fixed random views of each image; the rest is
switched on by `Config` where validation says that it helps. A training saves its state after every epoch and goes on
from there. Left out: choosing hyperparameters, and looking at test images.
"""

import math
from dataclasses import asdict, dataclass

import keras
import numpy as np
from keras import ops

from kd_lib import artifacts, feeding, losses
from kd_lib.checkpoint import Checkpoint, remove_checkpoint
from kd_lib.checks import check_labels
from kd_lib.distiller import Distiller
from kd_lib.files import lock
from kd_lib.views import fit_to


@dataclass(frozen=True)
class Config:
    """How to train. Two trainings with equal configurations, models and data give the same network.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: peak of the schedule.
        weight_decay: of AdamW.
        warmup_epochs: of linear warm-up from 0.
        ema: momentum of the running average of weights that is kept at the end; 0 keeps the last weights.
        label_smoothing: share of the label spread over all classes.
        balance: 0 shows every image once an epoch, 1 every class equally often.
        views: K fixed views of each image, "online" for a new one each epoch, None for no augmentation.
        strength: of the augmentation.
        seed: of the order of images, and by convention of the initial weights (see `seeded`).
        view_seed: of the views; the same for all seeds, so that they share the teacher's cached answers.
        refit: train on training and validation images together, after everything was chosen.
        keep_weights: False keeps the history alone, as for the runs of a sweep.
        start: what the initial weights were, where they are not random.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    ema: float = 0.0
    label_smoothing: float = 0.0
    balance: float = 0.0
    views: int | str | None = 4
    strength: float = 0.5
    seed: int = 0
    view_seed: int = 0
    refit: bool = False
    keep_weights: bool = True
    start: str = "random"

    def __post_init__(self):
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise ValueError(f"epochs must be a whole number of at least 1. Received: {self.epochs!r}")
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1. Received: {self.batch_size!r}")
        for name in ("learning_rate", "weight_decay", "warmup_epochs", "balance", "strength"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more. Received: {getattr(self, name)!r}")
        if self.views is not None and self.views != "online" and (not isinstance(self.views, int) or self.views < 1):
            raise ValueError(f'views must be a whole number of at least 1, "online" or None. Received: {self.views!r}')
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.ema < 1:
            raise ValueError(
                f"label_smoothing and ema must lie in [0, 1). Received: {self.label_smoothing} and {self.ema}"
            )


@dataclass
class Run:
    """A finished training: the `model` (None if its weights were not kept), `history` (lists by name, one entry an
    epoch), `seconds` that the training took when it was made, `loaded` (False if it was trained just now), `key`."""

    name: str
    model: keras.Model | None
    history: dict
    seconds: float
    loaded: bool
    key: str
    config: Config


class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels and logits, with label smoothing (which Keras' sparse loss lacks)."""

    def __init__(self, label_smoothing=0.0, name="smoothed_crossentropy"):
        super().__init__(name=name)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        labels = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(labels, y_pred, True, self.label_smoothing)

    def get_config(self):
        return {"label_smoothing": self.label_smoothing, "name": self.name}


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
        ValueError: labels outside the model's classes, an empty split, a loss that is not finite.
        OSError: the result could not be written; what was finished is kept.
    """
    distiller = model_or_distiller
    if not hasattr(distiller, "student"):
        distiller = Distiller(model_or_distiller, alpha=1.0)
    student, teacher = distiller.student, getattr(distiller, "teacher", None)
    split = dataset.refit_split() if config.refit else dataset.train
    check_labels(student, split, dataset)
    if hasattr(distiller, "check_teacher"):
        distiller.check_teacher()
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
                record = _train(artifact, distiller, student, teacher, dataset, split, config, progress)
                artifact.save(student, record)
    if loaded and progress:
        print(f"{name}: loaded; its training took {record['seconds']:.0f} s")
    remove_checkpoint(artifact.folder)
    student.was_trained = True
    model = student if record["weights"] else None
    return Run(name, model, record["history"], record["seconds"], loaded, artifact.key, config)


def _check_untrained(student, folder, config):
    """Refuse a network that was trained before: its key would call the result a fresh training."""
    resumes = (folder / "checkpoint.json").exists()  # then its weights are read from there
    if getattr(student, "was_trained", False) and config.start == "random" and not resumes:
        raise ValueError(
            f"{student.name} was trained before. Build it anew and train that, as `seeded` does; or, to train it "
            "further on purpose, say in Config(start=...) what its weights were."
        )


def _facts(distiller, student, teacher, dataset, config):
    facts = {"dataset": dataset.fingerprint, "model": artifacts.describe_model(student), "config": asdict(config)}
    if teacher is not None or type(distiller) is not Distiller:
        facts["distiller"] = {
            name: float(ops.convert_to_numpy(getattr(distiller, name)))
            for name in ("alpha", "temperature")
            if hasattr(distiller, name)
        }
        facts["distiller"]["loss"] = getattr(distiller, "distillation_name", "kd")
        facts["distiller"]["teacher"] = None if teacher is None else artifacts.fingerprint(teacher)
        function = getattr(distiller, "distillation_function", None)
        if function is not None and losses.name_of(function) is None:
            facts["distiller"]["loss_source"] = artifacts.source_of(function)
    if type(distiller) is not Distiller:
        facts["source"] = artifacts.source_of(type(distiller))
    return facts


def _train(artifact, distiller, student, teacher, dataset, split, config, progress):
    table = feeding.make_table(len(split), config)
    views = None if table is None else len(table)
    order = feeding.plan(
        split.labels,
        epochs=config.epochs,
        batch_size=config.batch_size,
        views=views,
        balance=config.balance,
        seed=config.seed,
    )
    teacher_logits = None
    if teacher is not None and config.views != "online":
        facts = {"dataset": dataset.fingerprint, "refit": config.refit, "view_seed": config.view_seed}
        teacher_logits = feeding.cached_teacher_logits(
            teacher,
            split,
            table,
            strength=config.strength,
            facts=facts,
            progress=print if progress else lambda line: None,
        )
    _compile(distiller, config, order.steps_per_epoch)
    checkpoint = Checkpoint(artifact, distiller, config, order.steps_per_epoch, progress)
    feed = feeding.batches(
        split,
        order,
        table,
        strength=config.strength,
        teacher_logits=teacher_logits,
        first_step=checkpoint.epoch * order.steps_per_epoch,
    )
    distiller.fit(
        feed,
        shuffle=False,  # the order is the plan's
        epochs=config.epochs,
        initial_epoch=checkpoint.epoch,
        steps_per_epoch=order.steps_per_epoch,
        validation_data=(dataset.validation.images, dataset.validation.labels),
        validation_batch_size=512,
        verbose=0,
        callbacks=[keras.callbacks.TerminateOnNaN(), checkpoint],
    )
    if not np.isfinite(checkpoint.history["loss"][-1]):
        raise ValueError(
            f"{artifact.name}: the loss is not a number after epoch {len(checkpoint.history['loss'])}. Try a lower "
            f"learning rate than {config.learning_rate}."
        )
    if config.ema:
        _reestimate_batchnorm(student, feeding.batches(split, order, table, strength=config.strength).take(64))
    artifacts.round_weights(student)  # what is kept is what is measured
    final = distiller.evaluate(dataset.validation.images, dataset.validation.labels, 512, verbose=0, return_dict=True)
    checkpoint.history["final_val_accuracy"] = [float(final["accuracy"])]
    return {"history": checkpoint.history, "seconds": checkpoint.seconds, "weights": config.keep_weights}


def _compile(distiller, config, steps_per_epoch):
    warmup = max(1, round(config.warmup_epochs * steps_per_epoch))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, config.epochs * steps_per_epoch - warmup),
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=config.weight_decay, use_ema=config.ema > 0, ema_momentum=config.ema or 0.99
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    distiller.compile(
        optimizer=optimizer,
        label_loss=SmoothedCrossentropy(config.label_smoothing),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )


def _reestimate_batchnorm(model, feed):
    """Replace BatchNorm's statistics by their mean over `feed`: averaged weights need statistics of their own."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for step, (images, _) in enumerate(feed):
        for norm in norms:
            norm.momentum = step / (step + 1)
        model(fit_to(model, images), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
