"""The recipe by which every network of the course is trained: its settings, its optimiser, its loss on labels.

AdamW with linear warm-up and, unless told otherwise, cosine decay; the rest is switched on by `Config` where validation
says that it helps.
Left out: running a training (see `kd_lib.training`).
"""

import math
import numbers
from dataclasses import asdict, dataclass

import keras
from keras import ops

from kd_lib.keys import LATER
from kd_lib.views import fit_to


def _is_whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


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
        mixup: a of Beta(a, a), by which the images of a batch are mixed in pairs; 0 mixes nothing. For a distiller with
            online views: the teacher says what the mixture is, and no label does.
        drawn: number of drawn signs that stand among the training images, for data of the 43 German signs.
        decay: "cosine", or "none" for a learning rate that stays at its peak.
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
    mixup: float = 0.0
    drawn: int = 0
    decay: str = "cosine"

    def __post_init__(self):
        for name, least in {"epochs": 1, "batch_size": 1, "drawn": 0, "seed": 0, "view_seed": 0}.items():
            value = getattr(self, name)
            if not _is_whole(value) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}. Received: {value!r}")
            object.__setattr__(self, name, int(value))  # NumPy's numbers are no JSON
        for name in ("learning_rate", "weight_decay", "warmup_epochs", "balance", "strength", "mixup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more. Received: {getattr(self, name)!r}")
        if self.views not in (None, "online") and not (_is_whole(self.views) and self.views >= 1):
            raise ValueError(f'views must be a whole number of at least 1, "online" or None. Received: {self.views!r}')
        if _is_whole(self.views):
            object.__setattr__(self, "views", int(self.views))
        if not 0 <= self.label_smoothing < 1 or not 0 <= self.ema < 1:
            raise ValueError(
                f"label_smoothing and ema must lie in [0, 1). Received: {self.label_smoothing} and {self.ema}"
            )
        if self.decay not in ("cosine", "none"):
            raise ValueError(f'decay must be "cosine" or "none". Received: {self.decay!r}')
        if self.mixup and self.views != "online":
            raise ValueError(f'mixup needs views="online": a mixture is new each time. Received: views={self.views!r}')

    def facts(self):
        """Return what decides the result, as a dict; a setting that came later is named where it is used."""
        return {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}


@keras.saving.register_keras_serializable("kd_lib")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of integer labels and logits, with label smoothing (which Keras' sparse loss lacks)."""

    def __init__(self, label_smoothing=0.0, name="smoothed_crossentropy"):
        super().__init__(name=name)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """Return the loss of each image, [batch], for int labels [batch] and logits [batch, classes]."""
        labels = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(labels, y_pred, True, self.label_smoothing)

    def get_config(self):
        """Return what the loss was made with."""
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def compile_for(distiller, config, steps_per_epoch):
    """Compile a distiller with the optimiser, schedule and label loss of `config`.

    Args:
        distiller: `Distiller`, or a class of one's own with the same `compile`.
        config: Config.
        steps_per_epoch: int; the schedule is a function of the step.
    """
    warmup = max(1, round(config.warmup_epochs * steps_per_epoch))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, config.epochs * steps_per_epoch - warmup),
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
        alpha=0.0 if config.decay == "cosine" else 1.0,  # the share of the peak that is left at the end
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


def reestimate_batchnorm(model, feed, steps=64):
    """Replace BatchNorm's statistics by their mean over some batches: averaged weights need their own.

    Args:
        model: keras.Model.
        feed: iterable of (images, y), such as `feeding.batches` gives; of images as training shows them.
        steps: number of batches at most.
    """
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for step, (images, _) in zip(range(steps), feed, strict=False):
        for norm in norms:
            norm.momentum = step / (step + 1)
        model(fit_to(model, images), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
