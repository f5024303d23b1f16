"""The teacher's answers to fixed views, on disk: the teacher runs once, and every epoch of every student reads them.

The answers are one float16 array [views, images, classes] in a file that is opened without being read whole. They are
known by teacher, data and views; a run that is broken off goes on where it stopped. Left out: views that are new in
each epoch, and features (a map per image and layer is too much to keep).
"""

import io
import json
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kd_lib import artifacts, graphs, views
from kd_lib.checkpoint import SECONDS_A_LINE
from kd_lib.feeding import drawn_facts, make_table, training_split
from kd_lib.files import is_damage, lock, write_json
from kd_lib.keys import fingerprint, network_of
from kd_lib.views import NUMBERS, augment, fit_to

BLOCK = 256  # images a call


@dataclass(frozen=True)
class CachedLogits:
    """A teacher's answers: `logits`, float16 [views, images, classes], memory-mapped, the `facts` behind them, and the
    `seconds` that the teacher took."""

    logits: np.ndarray
    facts: dict
    seconds: float = 0.0

    @classmethod
    def open(cls, folder, *, teacher=None):
        """Open the folder of a cache.

        Args:
            folder: where `cache_logits` left it.
            teacher: keras.Model whose answers they must be, or None.

        Returns:
            CachedLogits.

        Raises:
            ValueError: there is none, its file is damaged, or they are another teacher's answers.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            logits = np.load(folder / "logits.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{folder} holds no whole cache of a teacher's answers ({error}).") from error
        if logits.ndim != 3 or logits.dtype != np.float16:
            raise ValueError(f"{folder} holds {logits.dtype} {logits.shape}, not float16 [views, n, classes].")
        if teacher is not None and facts.get("teacher") != fingerprint(teacher):
            raise ValueError(
                f"The cached logits in {folder} are another teacher's: its weights are {facts.get('teacher')}, those "
                f"of {teacher.name} are {fingerprint(teacher)}. Make them again with kd_lib.cache.cache_logits."
            )
        if teacher is not None and facts.get("teacher_network") not in (None, network_of(teacher)):
            raise ValueError(
                f"The cached logits in {folder} are another teacher's: {teacher.name} has its weights, but other "
                "layers or settings. Make them again with kd_lib.cache.cache_logits."
            )
        return cls(logits, facts, _seconds(folder))

    @property
    def teacher_network(self):
        """What the teacher that gave these answers does with its weights; None where that was not noted."""
        return self.facts.get("teacher_network")

    @property
    def teacher_fingerprint(self):
        """The fingerprint of the teacher that gave these answers."""
        return self.facts["teacher"]

    def check(self, facts, count):
        """Raise ValueError where these answers do not belong to that data and those views; it says what differs."""
        for name in [*facts, *(name for name in self.facts if name not in facts and not name.startswith("teacher"))]:
            ours, theirs = self.facts.get(name), facts.get(name)
            if json.dumps(ours) != json.dumps(theirs):  # tuples come back as lists
                raise ValueError(
                    f"The cached logits are of another training: its {_WORDS.get(name, name)} differ. They were made "
                    f"with {ours!r}, this one has {theirs!r}. Make them again with kd_lib.cache."
                )
        if self.logits.shape[1] != count:
            raise ValueError(
                f"The cached logits are of {self.logits.shape[1]:,} images, and the training has {count:,}."
            )


_WORDS = {
    "dataset": "data",
    "view_seed": "view table's seeds",
    "views": "numbers of views",
    "strength": "strengths of the views",
    "views_drawn": "ways to draw views",
    "refit": "splits",
    "drawn": "numbers of drawn signs",
    "drawings": "ways to draw signs",
}


def cache_logits(teacher, dataset, config, *, progress=True):
    """Run a teacher once over the training images in all their views, or open what an earlier run found.

    Args:
        teacher: keras.Model.
        dataset: from `kd_lib.load_dataset`; its training images (and validation images, with `config.refit`) are used.
        config: training.Config; its `views` (a number or None), `strength`, `view_seed` and `refit` count.
        progress: print a line for each view.

    Returns:
        CachedLogits.

    Raises:
        ValueError: views that are new in each epoch, or answers that are not finite in float16.
        OSError: the disk has not enough room.
    """
    if config.views == "online":
        raise ValueError('views="online" shows a new view in each epoch: there is nothing to cache. Choose a number.')
    split = training_split(dataset, config)
    facts = facts_of(dataset, config) | {"teacher": fingerprint(teacher), "teacher_network": network_of(teacher)}
    table = make_table(len(split), config)
    say = _say if progress else lambda line, end="\n": None
    logits = answers(teacher, split, table, strength=config.strength, facts=facts, progress=say)
    return CachedLogits(logits, facts, _seconds(_folder(facts)))


def facts_of(dataset, config):
    """Return what cached answers depend on besides the teacher."""
    return {
        "dataset": dataset.fingerprint,
        "refit": config.refit,
        "view_seed": config.view_seed,
        "strength": config.strength,
        "views": config.views,
        **(views.facts() if config.views is not None else {}),
        **drawn_facts(config),
    }


def _say(line, end="\n"):
    print(line.ljust(118), end=end, flush=True)


def answers(teacher, split, table, *, strength, facts, progress=_say):
    """Return float16 [views, n, classes], memory-mapped: see `cache_logits`.

    Args:
        teacher: keras.Model.
        split: with `.images`.
        table: float32 [views, n, 17], or None for the images as they are.
        strength: of the augmentation.
        facts: JSON-able dict that identifies teacher, data and views.
        progress: called with a line for each view, and with end="\\r" and one for where it stands every few seconds.
    """
    folder = _folder(facts)
    path = folder / "logits.npy"
    shape = (1 if table is None else len(table), len(split), teacher.output_shape[-1])
    with lock(folder):
        if path.exists():
            try:
                return _opened(path, shape)
            except (OSError, ValueError, EOFError) as error:
                if not is_damage(error):
                    raise
                message = f"The teacher's answers in {path} are corrupt ({error}); they are made again."
                warnings.warn(message, stacklevel=3)
                path.unlink()
        artifacts.write_facts(folder / "config.json", facts)
        before, started = _seconds(folder), time.perf_counter()
        try:
            _fill(folder / "logits.part", shape, _asker(teacher, split, table, strength), progress)
        finally:
            write_json(folder / "seconds.json", round(before + time.perf_counter() - started, 1))
        (folder / "logits.part").replace(path)
    return _opened(path, shape)


def _folder(facts):
    return artifacts.Artifact("teacher-logits", facts).folder


def _seconds(folder):
    try:
        return float(json.loads((folder / "seconds.json").read_text()))
    except (OSError, ValueError):  # it is a note, not a result
        return 0.0


def _opened(path, shape):
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.shape != shape:
        raise ValueError(f"shape {found.shape} instead of {shape}")
    return found


def _asker(teacher, split, table, strength):
    """Return a function (view, rows) -> the teacher's answers, float32 [rows, classes]."""
    asked = _Asked(teacher, strength if table is not None else 0.0)
    asked.compile(run_eagerly=graphs.eager((1 if table is None else len(table)) * len(split) / BLOCK))

    def ask(view, rows):
        images = np.asarray(split.images[rows])
        numbers = np.zeros((len(images), len(NUMBERS)), np.float32) if table is None else table[view, rows]
        return asked.predict_on_batch([images, numbers])

    return ask


class _Asked(keras.Model):
    """A teacher that is shown views: one compiled step on every backend."""

    def __init__(self, teacher, strength):
        super().__init__(name="asked")
        self.teacher, self.strength = teacher, strength

    def call(self, inputs):
        images, numbers = inputs
        return self.teacher(fit_to(self.teacher, augment(images, numbers, self.strength)), training=False)


def _fill(path, shape, ask, progress):
    """Append answers to `path` until it holds them all; rows that an earlier run left are kept."""
    rounds, count, classes = shape
    started = told = time.perf_counter()
    room = 2 * rounds * count * classes
    if shutil.disk_usage(path.parent).free < room:
        raise OSError(f"{path} needs {room / 1e6:,.0f} MB. Free some space, or set KD_HOME to another disk.")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    header = header.getvalue()
    with open(path, "ab") as file:
        if file.tell() < len(header):
            file.truncate(0)
            file.write(header)
        done = (file.tell() - len(header)) // (2 * classes)
        file.truncate(len(header) + 2 * classes * done)  # a row that was half written goes
        for view in range(done // count, rounds):
            for first in range(done % count if view == done // count else 0, count, BLOCK):
                logits = np.asarray(ask(view, slice(first, min(first + BLOCK, count))), np.float32)
                with np.errstate(over="ignore"):
                    block = logits.astype("<f2")
                if not np.isfinite(block).all():
                    raise ValueError("The teacher's answers are not finite in float16; its training diverged.")
                file.write(block.tobytes())
                now = time.perf_counter()
                if now - told > SECONDS_A_LINE:
                    told = now
                    where = f"view {view + 1} of {rounds}, image {first + len(block):,} of {count:,}"
                    progress(f"teacher's answers: {where}, {now - started:.0f} s", end="\r")
            file.flush()
            progress(f"teacher's answers: view {view + 1} of {rounds}, {time.perf_counter() - started:.0f} s")
