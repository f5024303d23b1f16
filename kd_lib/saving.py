"""What Keras asks of a distiller to save it and read it again: student, settings and optimiser, never a teacher.

Left out: artifacts, which keep the student alone (see `kd_lib.artifacts`).
"""

import keras
from keras import ops

from kd_lib import losses


class Saved:
    """The part of `Distiller` that Keras' saving calls; teacher and features stay behind."""

    def __dir__(self):
        """All names but two: Keras saves whatever it finds under the names listed here, properties too."""
        return [name for name in super().__dir__() if name not in ("faculty", "teacher")]

    def get_config(self):
        """Everything but teacher and features: a reloaded distiller evaluates, predicts, and trains on given logits."""
        return {
            "student": keras.saving.serialize_keras_object(self.student),
            "loss": [
                [losses.name_of(function) or keras.saving.serialize_keras_object(function), weight]
                for function, weight in self.faculty.terms
            ],
            "alpha": float(ops.convert_to_numpy(self._alpha)),
            "temperature": float(ops.convert_to_numpy(self._temperature)),
            "teacher_weights": self.faculty.weights if len(self.faculty.weights) > 1 else None,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        from kd_lib import models, quantization  # noqa: F401  their layers are found once they are imported

        student = keras.saving.deserialize_keras_object(config["student"])
        loss = {keras.saving.deserialize_keras_object(name): weight for name, weight in config["loss"]}
        return cls(**{**config, "student": student, "loss": loss})

    def get_compile_config(self):
        """What `compile` was given, serialised."""
        return keras.saving.serialize_keras_object(self._compile_arguments()) if self.compiled else None

    def compile_from_config(self, config):
        """Compile as the saved distiller was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)
