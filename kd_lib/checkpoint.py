"""A training that can be killed: its state on disk after every epoch, and one line of progress."""

import json
import math
import os
import time

import keras
import numpy as np
from keras import ops

from kd_lib.files import is_damage, write_json, writing

SECONDS_A_LINE = 5  # between two looks at an epoch that is under way


class Checkpoint(keras.callbacks.Callback):
    """Saves weights, optimiser and history after every epoch, starts from them, and prints one line of progress.

    Args:
        artifact: `artifacts.Artifact` whose folder holds the state.
        distiller: compiled `Distiller`; it is set to the saved state, if there is one.
        config: `training.Config`.
        steps: number of steps an epoch.
        progress: False for no line.
    """

    async_safe = True  # `on_train_batch_end` only prints

    def __init__(self, artifact, distiller, config, steps, progress):
        super().__init__()
        self.artifact, self.config, self.steps, self.progress = artifact, config, steps, progress
        self.epoch, self.seconds, self.history = 0, 0.0, {}
        self.started = self.told = time.perf_counter()
        state = artifact.folder / "checkpoint.json"
        if state.exists():
            joining = [layer for layer in getattr(distiller, "projectors", ()) if layer is not None]
            learning = [distiller.student, *joining]
            distiller.optimizer.build([variable for one in learning for variable in one.trainable_variables])
            variables = (*distiller.variables, *distiller.optimizer.variables)
            fresh = [ops.convert_to_numpy(variable) for variable in variables]
            try:
                saved = json.loads(state.read_text(encoding="utf-8"))
                distiller.load_weights(artifact.folder / saved["weights"])
                for state, value in zip(_random_states(distiller), saved.get("random", ()), strict=False):
                    state.assign(value)
                self.epoch, self.seconds, self.history = saved["epoch"], saved["seconds"], saved["history"]
                self._line(f"goes on after epoch {self.epoch}")
            except Exception as error:
                if not is_damage(error):
                    raise  # a training that starts anew would write over it
                for variable, value in zip(variables, fresh, strict=True):
                    variable.assign(value)  # part of them may have been read
                print(f"{artifact.name}: the checkpoint cannot be used ({error}); training starts anew")

    def on_epoch_begin(self, epoch, logs=None):
        self.started = self.told = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.told > SECONDS_A_LINE:
            self.told = now
            done = self.epoch + (batch + 1) / self.steps
            spent = self.seconds + now - self.started
            self._line(
                f"epoch {self.epoch + 1}/{self.config.epochs}, step {batch + 1}/{self.steps}, "
                f"{spent:.0f} s, about {spent / done * (self.config.epochs - done):.0f} s left",
                end="\r",
            )

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            self.history.setdefault(name, []).append(round(float(value), 6))
        self.epoch, self.seconds = epoch + 1, self.seconds + time.perf_counter() - self.started
        folder, name = self.artifact.folder, f"checkpoint-{self.epoch:04d}.weights.h5"
        if np.isfinite(logs["loss"]) and all(np.isfinite(value).all() for value in self.model.get_weights()):
            with writing(folder / name, self._size()) as temporary:
                self.model.save_weights(temporary)
            saved = {"epoch": self.epoch, "seconds": self.seconds, "history": self.history, "weights": name}
            saved["random"] = [ops.convert_to_numpy(state).tolist() for state in _random_states(self.model)]
            write_json(folder / "checkpoint.json", saved)
            for old in folder.glob("checkpoint-*.weights.h5"):
                if old.name != name:
                    os.unlink(old)
        left = self.seconds / self.epoch * (self.config.epochs - self.epoch)
        accuracy = logs.get("val_accuracy", float("nan"))
        self._line(
            f"epoch {self.epoch}/{self.config.epochs}, loss {logs['loss']:.3f}, validation {accuracy:.2%}, "
            f"{self.seconds:.0f} s, {left:.0f} s left",
            end="\n" if self.epoch == self.config.epochs else "\r",
        )

    def kept(self):
        """Path of the weights that are kept, or None."""
        return next(iter(self.artifact.folder.glob("checkpoint-*.weights.h5")), None)

    def _size(self):
        """Bytes of a checkpoint at most: HDF5 can take the interpreter down with it when the disk is full."""
        variables = (*self.model.variables, *self.model.optimizer.variables)
        return 2**20 + 8 * sum(math.prod(variable.shape) for variable in variables)

    def _line(self, text, end="\n"):
        if self.progress:
            print(f"{self.artifact.name}: {text}".ljust(118), end=end, flush=True)


class StopAtNaN(keras.callbacks.Callback):
    """Ends a training whose loss is not a number; `step` says where in its epoch that was."""

    step = None

    def on_train_batch_end(self, batch, logs=None):
        if self.step is None and not np.isfinite(logs["loss"]):
            self.step = batch + 1
            self.model.stop_training = True


def _random_states(model):
    """The states of dropout and its like, which Keras does not save with the weights."""
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


def remove_checkpoint(folder):
    (folder / "checkpoint.json").unlink(missing_ok=True)
    for path in folder.glob("checkpoint-*.weights.h5"):
        path.unlink(missing_ok=True)
