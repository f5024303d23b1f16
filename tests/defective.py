"""Distillers with one known defect each, as found in published code. Every promise of tests/test_distiller.py is shown
to be broken by one of these; each is kd_lib.Distiller but for the lines that stand here."""

import keras
import tensorflow as tf
from keras import ops

from kd_lib import Distiller, losses


class ClippedRawLogits(Distiller):
    """keras.distillation.LogitsDistillation() as it comes: KL of raw logits clipped to [1e-7, 1], no softmax, no T²."""

    def __init__(self, student, teacher=None, **options):
        def clipped(student_logits, teacher_logits, temperature):
            p, q = (ops.clip(logits / temperature, 1e-7, 1.0) for logits in (teacher_logits, student_logits))
            return ops.sum(p * ops.log(p / q), axis=-1)

        super().__init__(student, teacher, **{**options, "loss": clipped})


class WithoutTemperatureSquared(Distiller):
    """The factor T² is forgotten: at T = 4 the teacher counts for a sixteenth."""

    def __init__(self, student, teacher=None, **options):
        def small(student_logits, teacher_logits, temperature):
            return losses.kd(student_logits, teacher_logits, temperature) / temperature**2

        super().__init__(student, teacher, **{**options, "loss": small})


class AveragesOverClasses(Distiller):
    """KL is averaged over classes where it should be summed: its weight is off by their number."""

    def __init__(self, student, teacher=None, **options):
        def averaged(student_logits, teacher_logits, temperature):
            return losses.kd(student_logits, teacher_logits, temperature) / ops.shape(student_logits)[1]

        super().__init__(student, teacher, **{**options, "loss": averaged})


class CrossEntropyOnSoftmax(Distiller):
    """The label loss expects logits and is given probabilities."""

    def compile(self, optimizer="adam", **options):
        super().compile(optimizer, **options)
        loss = self.label_loss

        def on_probabilities(y, logits, sample_weight=None):
            return loss(y, ops.exp(ops.log_softmax(logits)), sample_weight=sample_weight)

        self.label_loss = on_probabilities


class RunsStudentTwice(Distiller):
    """The student is run again for its features: BatchNorm's statistics move twice a step."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if training:
            self.student(x, training=True)
        return super().compute_loss(x, y, y_pred, sample_weight, training)


class EvaluatesInTrainingMode(Distiller):
    """`evaluate` runs the student in training mode, which changes BatchNorm's statistics."""

    def test_step(self, data):
        x, y = data
        logits = self.student(x, training=True)
        self.compute_loss(x, y, logits, training=False)
        return self.compute_metrics(x, y, logits)


class IgnoresSampleWeight(Distiller):
    """`compute_loss` takes sample weights and does not pass them on."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, y, y_pred, None, training)


class DropsRegularization(Distiller):
    """The student's own losses (regularizers, add_loss) are not added to the total."""

    def compute_loss(self, *args, **options):
        return super().compute_loss(*args, **options) - sum(self.losses)


class ConstantTemperature(Distiller):
    """The temperature is a Python number, fixed in the graph when it is traced."""

    def compile(self, optimizer="adam", **options):
        super().compile(optimizer, **options)
        constant = float(ops.convert_to_numpy(self.temperature))
        self.faculty.terms = [(lambda student, teacher, temperature: losses.kd(student, teacher, constant), 1.0)]


class ConstantAlpha(Distiller):
    """alpha is a Python number, fixed in the graph when it is traced."""

    def compile(self, optimizer="adam", **options):
        super().compile(optimizer, **options)
        self.constant = float(ops.convert_to_numpy(self.alpha))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        super().compute_loss(x, y, y_pred, sample_weight, training)  # for the metrics
        teacher = ops.mean(losses.kd(y_pred, y["teacher_logits"], self.temperature))
        return self.constant * self.label_loss(y["label"], y_pred) + (1 - self.constant) * teacher


class TeacherInEvaluation(Distiller):
    """The teacher answers in `evaluate` too, where nobody needs it."""

    def test_step(self, data):
        self.add_teacher_logits(*data)
        return super().test_step(data)


class TracksTeacher(Distiller):
    """The teacher is an attribute, so that Keras saves it with every checkpoint of the student."""

    def build(self, input_shape=None):
        self.teacher_network = self.teacher
        super().build(input_shape)


class ShowsTheTeacherToKeras(Distiller):
    """The teacher is no attribute but a property: Keras, which saves what it finds in dir(), finds that too."""

    def __dir__(self):
        return object.__dir__(self)


@keras.saving.register_keras_serializable("defective")
class ForgetsHowItWasCompiled(Distiller):
    """Saved without its compile arguments: a reloaded one cannot evaluate."""

    def get_compile_config(self):
        return None


class RefusesMixedPrecision(Distiller):
    """Teacher and student must compute in the same dtype."""

    def __init__(self, student, teacher=None, **options):
        if teacher is not None and teacher.compute_dtype != student.compute_dtype:
            raise ValueError("Teacher and student dtypes must match.")
        super().__init__(student, teacher, **options)


class FreezesTheCallersTeacher(Distiller):
    """The caller's own model is switched to trainable=False, and stays so."""

    def __init__(self, student, teacher=None, **options):
        super().__init__(student, teacher, **options)
        teacher.trainable = False


class TrainsTheTeacher(Distiller):
    """The teacher runs inside the tape and learns to be easy to imitate."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            targets = {"label": y, "teacher_logits": self.teacher(x, training=False)}
            loss = self.compute_loss(x, targets, self(x, training=True))
        variables = self.student.trainable_variables + self.teacher.trainable_variables
        self.optimizer.build(variables)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return self.compute_metrics(x, targets, self(x))


class TeacherInTrainingMode(Distiller):
    """The teacher's dropout is on, and its BatchNorm statistics move."""

    def add_teacher_logits(self, x, y):
        return y if isinstance(y, dict) else {"label": y, "teacher_logits": self.teacher(x, training=True)}


class BatchNormInInferenceMode(Distiller):
    """The student is called without `training`: BatchNorm keeps its initial statistics all through fit."""

    def call(self, x, training=None):
        return self.student(x, training=False)


class RunsTheStudentForEachFeature(Distiller):
    """Features are taken from a second run of the student."""

    def call(self, x, training=None):
        if training:
            self.student(x, training=True)
        return super().call(x, training=training)


class WithoutProjector(Distiller):
    """Feature maps of unequal width are subtracted as they are."""

    def __init__(self, student, teacher=None, **options):
        super().__init__(student, teacher, **options)
        self.projectors = self.faculty.projectors = [None] * len(self.projectors)


class ComparesFeaturesAsTheyAre(Distiller):
    """Features are not brought to one dtype before they are subtracted."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        pairs = zip(y_pred["features"], y["teacher_features"], strict=True)
        return total + sum(0.0 * tf.reduce_mean(tf.raw_ops.Sub(x=ours, y=theirs)) for ours, theirs in pairs)


class SnapshotByReference:
    """ "Best weights" that are a list of the live variables: what is restored are the last ones."""

    def take(self, model):
        self.values = model.weights

    def restore(self, model):
        for variable, value in zip(model.weights, self.values, strict=True):
            variable.assign(value)
