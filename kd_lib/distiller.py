"""The distiller: a Keras model that trains a student on labels and on a teacher's soft answers at once.

All of its mathematics stands in `compute_loss`, written in `keras.ops`; `train_step` is the readable TensorFlow loop
around it. The teacher is never trained, never saved and never run by `evaluate`. Left out: how images are read,
augmented and cached (see `kd_lib.training`), the losses (`kd_lib.losses`), and running teachers (`kd_lib.faculty`).
"""

import contextlib

import keras
from keras import ops

from kd_lib import steady
from kd_lib.checks import as_alpha, as_number, as_temperature, check_given_labels, check_label_loss
from kd_lib.faculty import Faculty, logits_of
from kd_lib.reduction import Average, as_targets, has_dict_target, unscaled, weight_of
from kd_lib.saving import Saved
from kd_lib.views import fit_to

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


@keras.saving.register_keras_serializable("kd_lib")
class Distiller(Saved, keras.Model):
    """Train `student` to match labels and teacher.

    total = alpha * label loss + (1 - alpha) * distillation loss + the student's own regularisation losses.

    Compile and fit it like any Keras model. `y` is the labels, or a dict with "label" and/or "teacher_logits"; with
    teacher logits in `y` no teacher runs. alpha = 1 is plain training. `alpha` and `temperature` are weights:
    `distiller.temperature = 2.0` in a callback changes the next step. `evaluate` and `predict` run the student alone.

    Args:
        student: keras.Model, images -> logits [batch, classes]. It is trained in place.
        teacher: keras.Model of the same classes, run in inference mode; the path of a saved one; cached logits (see
            `kd_lib.cache`), for `fit_or_load`; a list of these, whose softened probabilities are averaged; None if `y`
            brings teacher logits or alpha is 1.
        loss: name in `kd_lib.losses`; a function (student_logits, teacher_logits, temperature), or with `labels` as
            third parameter, -> [batch] or scalar; a dict {name or function: weight}, whose sum is taken; or None, if
            features are compared.
        alpha: weight of the label loss, 0 to 1; a number, or an array, tensor or variable without axes.
        temperature: softening of both networks' answers, positive; likewise.
        features: tuples (teacher layer, student layer, "hint" | "attention" | "rkd"), a weight may follow. Their losses
            are added to the distillation loss. Where a hint's widths differ, a trainable 1x1 projection joins them; it
            belongs to the distiller and is not part of the student.
        teacher_weights: a number per teacher; None for equal ones.

    Raises:
        ValueError: alpha outside [0, 1], temperature not positive, unknown loss or layer, a weight below 0, unequal
            class counts, a network that answers probabilities (each is asked once, with noise), features that cannot be
            compared.

    Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
    """

    def __init__(
        self,
        student,
        teacher=None,
        *,
        loss="kd",
        alpha=0.1,
        temperature=4.0,
        features=(),
        teacher_weights=None,
        **kwargs,
    ):
        super().__init__(dtype=student.dtype_policy, **kwargs)
        faculty = Faculty(student, teacher, loss=loss, features=features, weights=teacher_weights)
        self.student, self.projectors = student, faculty.projectors
        # Keras tracks models that are attributes; through a closure the teacher stays out of weights and checkpoints,
        # and its `trainable` flag is nobody's business here.
        self._get_faculty = lambda: faculty
        alpha = as_alpha(alpha)
        self._alpha = self._scalar("alpha", alpha)
        self._temperature = self._scalar("temperature", as_temperature(temperature))
        self.label_tracker = keras.metrics.Mean(name="label_loss")
        self.distillation_tracker = keras.metrics.Mean(name="distillation_loss")
        self._plain, self._taught, self._distilling = alpha == 1, False, False
        self.build(student.input_shape)

    def _scalar(self, name, value):
        return self.add_weight(
            name=name, shape=(), dtype="float32", trainable=False, initializer=keras.initializers.Constant(value)
        )

    def __setattr__(self, name, value):
        if name in ("alpha", "temperature"):  # now: Keras would take a variable for a new part of this model
            value = as_number(name, value)
        super().__setattr__(name, value)

    @property
    def faculty(self):
        """Who teaches and what is compared: a `kd_lib.faculty.Faculty`."""
        return self._get_faculty()

    @property
    def teacher(self):
        """The teacher given at construction: None, a model, a tuple of models, or cached logits."""
        return self.faculty.teacher

    @property
    def alpha(self):
        """Weight of the label loss (a Keras variable); assign a number to change it, also while training."""
        return self._alpha

    @alpha.setter
    def alpha(self, value):
        value = as_alpha(value)
        if value < 1 and self._plain and self.teacher is None and self.train_function is not None and not self._taught:
            raise ValueError(
                "alpha was 1 when training began, and there was no teacher: its step has no distillation loss that a "
                "lower alpha could weigh. Pass a teacher, or begin with alpha below 1."
            )
        self._alpha.assign(value)
        self._plain = value == 1

    @property
    def temperature(self):
        """The temperature (a Keras variable); assign a number to change it, also while training."""
        return self._temperature

    @temperature.setter
    def temperature(self, value):
        self._temperature.assign(as_temperature(value))

    def build(self, input_shape=None):
        self.built = True

    def call(self, x, training=None):
        """Return the student's logits, float [batch, classes], for images [batch, height, width, 3].

        In training with `features`: a dict with "logits" and the list "features".
        """
        x = fit_to(self.student, x)
        return self.faculty.study(x) if training and self.faculty.pairs else self.student(x, training=training)

    def compile(self, optimizer="adam", metrics=("accuracy",), label_loss=None, **kwargs):
        """Configure training.

        Args:
            optimizer: as in Keras.
            metrics: compared with the labels, as in Keras.
            label_loss: keras.losses.Loss of label and logits; default SparseCategoricalCrossentropy(from_logits=True).
            **kwargs: the rest of `keras.Model.compile`, except `loss`, which is named `label_loss` here.

        Raises:
            ValueError: `loss` was given, or a label loss that expects probabilities.
        """
        if "loss" in kwargs:
            raise ValueError("Distiller.compile has no argument `loss`: pass the loss on labels as `label_loss`.")
        if isinstance(metrics, keras.losses.Loss):
            raise ValueError("Distiller.compile(optimizer, metrics): pass the loss on labels as label_loss=.")
        self.label_loss = check_label_loss(label_loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self.average = Average()
        metrics = list(metrics) if isinstance(metrics, tuple) else metrics
        arguments = {"optimizer": optimizer, "metrics": metrics, "label_loss": label_loss}
        self._compile_arguments = lambda: arguments  # a closure again: Keras would track what is in a dict
        if label_loss is None and isinstance(metrics, list):  # labels are numbers, so this need not wait for them
            metrics = [self._accuracy() if metric == "accuracy" else metric for metric in metrics]
        super().compile(optimizer=optimizer, metrics=metrics, **kwargs)

    def _accuracy(self):
        """What Keras makes of "accuracy" for such labels, but within the first step, which is then traced twice."""
        on_tensorflow = keras.backend.backend() == "tensorflow"
        with self.distribute_strategy.scope() if on_tensorflow else contextlib.nullcontext():
            return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        """Train as `keras.Model.fit` does; `class_weight` is refused where `y` is a dict.

        Labels given as arrays, also in `validation_data`, are checked before the first step; those in a stream (tf.data
        or keras.utils.PyDataset) are not looked through. On TensorFlow NumPy arrays are fed by `kd_lib.steady`: the
        batches that Keras would make, in another random order.
        """
        self._plain = float(ops.convert_to_numpy(self._alpha)) == 1  # the variable may have been assigned directly
        if class_weight is not None and has_dict_target(x, y):
            raise ValueError(
                "class_weight is ambiguous with a dict y. Pass sample_weight instead: one weight per image, "
                "for example [class_weight[label] for label in labels]."
            )
        if getattr(self, "optimizer", None) is None:
            raise ValueError("Call compile(optimizer) before fit.")
        check_given_labels(self, y, "training")
        held_out = kwargs.get("validation_data")
        if isinstance(held_out, list | tuple) and len(held_out) > 1:
            check_given_labels(self, held_out[1], "validation")
        on_tensorflow = keras.backend.backend() == "tensorflow" and type(self) is Distiller
        if on_tensorflow and not getattr(self.optimizer, "built", True):
            with self.distribute_strategy.scope():  # made within the first step, it would be traced twice
                self.optimizer.build(self.trainable_variables)
        return super().fit(**steady.arguments(super().fit, x, y, *args, class_weight=class_weight, **kwargs))

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Measure the student as `keras.Model.evaluate` does; labels are checked as in `fit`. Numbers are floats."""
        check_given_labels(self, y, "evaluation")
        given = steady.arguments(super().evaluate, x, y, *args, **kwargs)
        found = super().evaluate(**given)  # of tensors, before Keras 3.14
        return keras.tree.map_structure(
            lambda value: float(value) if getattr(value, "shape", None) == () else value, found
        )

    if keras.backend.backend() == "tensorflow":  # the other backends have a loop of their own around compute_loss

        def train_step(self, data):
            """Update the student on one batch; return the metrics so far."""
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            y = self.add_teacher_logits(x, y)  # outside the tape: nothing flows into the teacher
            with tf.GradientTape() as tape:
                answer = self(x, training=True)
                loss = self.compute_loss(x, y, answer, sample_weight, training=True)
                scaled_loss = self.optimizer.scale_loss(loss)
            learning = self.trainable_variables  # the student's, and those of projectors
            self.optimizer.apply_gradients(zip(tape.gradient(scaled_loss, learning), learning, strict=True))
            self._loss_tracker.update_state(unscaled(loss), sample_weight=ops.shape(logits_of(answer))[0])
            return self.compute_metrics(x, y, answer, sample_weight)

    def check_teacher(self):
        """Raise ValueError where alpha asks for a teacher and there is none."""
        if self.teacher is None and not self._plain:
            raise ValueError("alpha is below 1, so the student needs a teacher: pass teacher=..., or set alpha=1.")

    def add_teacher_logits(self, x, y):
        """Return y as a dict, completed by what the teachers make of x: "teacher_logits" unless y brings them, and
        "teacher_features" where features are compared.
        """
        targets = as_targets(y)
        wanted = ["teacher_logits"] + (["teacher_features"] if self.faculty.pairs else [])
        if self.faculty.models and any(name not in targets for name in wanted):
            targets = self.faculty.answer(x) | targets
        return targets

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the total loss of a batch and update the metrics `label_loss` and `distillation_loss`.

        Args:
            x: images, [batch, height, width, 3].
            y: labels, or a dict with "label" and/or "teacher_logits".
            y_pred: what `call` returned: the student's logits, [batch, classes], and its features in a dict with them.
            sample_weight: None, [batch], or a dict with it under "label" (without labels: "teacher_logits"); weighs
                both losses.
            training: False for evaluation, which looks at the label loss alone, or without labels at the other one.

        Returns:
            float32 scalar.

        Raises:
            ValueError: neither labels nor teacher logits, or alpha < 1 and no teacher.
        """
        targets = self.add_teacher_logits(x, y) if training else as_targets(y)
        labels, weight = targets.get("label"), weight_of(sample_weight)
        self._distilling = (training or labels is None) and targets.get("teacher_logits") is not None
        self._taught = self._taught or (training and self._distilling)
        logits = logits_of(y_pred)
        count = ops.shape(logits)[0]
        terms = []
        if labels is not None:
            label_loss = self.label_loss(labels, logits, sample_weight=weight)
            self.label_tracker.update_state(unscaled(label_loss), sample_weight=count)
            terms.append(self._alpha * label_loss if training else label_loss)
        if self._distilling:
            values = self.faculty.losses(y_pred, targets, self._temperature)
            distillation_loss = sum(self.average(value, weight) for value in values)
            self.distillation_tracker.update_state(unscaled(distillation_loss), sample_weight=count)
            terms.append((1.0 - self._alpha) * distillation_loss)
        elif training and not self._plain:
            raise ValueError(
                "Cached logits are read by kd_lib.fit_or_load, which shows the very views that they answer; or pass "
                "them in y={'label': ..., 'teacher_logits': ...}."
                if self.faculty.cached
                else "alpha is below 1, so the student needs a teacher: pass teacher=..., or y={'label': ..., "
                "'teacher_logits': ...}, or set alpha=1 for plain training."
            )
        if not terms:
            raise ValueError(
                "y holds neither 'label' nor 'teacher_logits': there is nothing to learn from."
                if training
                else "Evaluation runs no teacher: give it labels, or y={'teacher_logits': ...}."
            )
        if training and labels is None and self._plain:
            raise ValueError("alpha is 1, which leaves the labels alone, and there are none: nothing would be learned.")
        return sum(terms) + sum(self._aggregate_additional_loss(loss) for loss in self.losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Return the metrics by name; a loss that this kind of step does not compute is left out."""
        label = as_targets(y).get("label")
        if label is None:
            return {metric.name: metric.result() for metric in (self._loss_tracker, self.distillation_tracker)}
        logs = super().compute_metrics(x, label, logits_of(y_pred), weight_of(sample_weight))
        if not self._distilling:
            logs.pop("distillation_loss")
        return logs

    def get_metrics_result(self):
        """Return the metrics by name; without labels, those that compare with labels are left out."""
        if self.compiled and self._compile_metrics is not None and not self._compile_metrics.built:
            return {metric.name: metric.result() for metric in (self._loss_tracker, self.distillation_tracker)}
        return super().get_metrics_result()
