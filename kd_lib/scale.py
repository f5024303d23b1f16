"""How much work a run does, and where it keeps its files: the only reader of environment variables.

A scale changes amounts (images, epochs, seeds), never the code path. `smoke` takes seconds a notebook and proves that
everything runs; `laptop` takes minutes and shows every effect on the drawn signs; `full` is what the committed results
come from. Nothing here looks at the hardware: the same scale does the same work everywhere.
"""

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

# TensorFlow switches oneDNN on by itself on new processors only; on any other it makes training about twice as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# It also reports every library that it looks for in vain; what goes wrong in earnest is raised as an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A course evaluates many models, each traced once; TensorFlow takes that for one function traced again and again. It
# also reports each file of a conversion.
logging.getLogger("tensorflow").addFilter(
    lambda record: not any(word in record.getMessage() for word in ("retracing", "Assets written"))
)

VARIABLES = ("KD_SCALE", "KD_DATA", "KD_HOME", "KD_MOBILENET")
REPOSITORY = Path(__file__).resolve().parent.parent

_LOSSES = ("dkd", "dist", "standardized_kd", "kd + attention", "kd + hint", "kd + rkd")
# One row a scale.
_AMOUNTS = {
    "smoke": {
        **{"limit": 215, "seeds": (0,), "epochs": 2, "batch_size": 43, "views": 2},
        **{"teacher_epochs": 1, "teacher_width": 4, "teacher_batch_size": 43, "teacher_limit": 215},
        **{"teacher_strength": 0.5},
        **{"drawn": 43, "teacher_drawn": 43, "teacher_cells": 1},
        **{"sweep_epochs": 1, "sweep_seeds": 1, "sweep_alphas": (0.1, 1.0), "sweep_temperatures": (4.0,)},
        **{"sweep_share": 1.0},
        **{"few_shares": (0.1,), "few_seeds": 1},
        **{"recipe_epochs": 1, "recipe_seeds": (0,), "recipe_views": (1, 2, "online")},
        **{"recipe_losses": ("kd + hint",)},
        **{"prune_fractions": (0.5,), "prune_epochs": 1, "sweep_changes": 2},
        **{"mobilenet": "signs", "mobilenet_size": 32, "mobilenet_limit": 86, "mobilenet_epochs": (1, 1, 1)},
        **{"mobilenet_seeds": 1},
        **{"quiz_scale": "smoke", "ward": 9},
    },
    "laptop": {
        **{"limit": 2150, "seeds": (0, 1, 2), "epochs": 5, "batch_size": 32, "views": 4},
        **{"teacher_epochs": 4, "teacher_width": 24, "teacher_batch_size": 32, "teacher_limit": 8600},
        **{"teacher_strength": 0.5},
        **{"drawn": 0, "teacher_drawn": 0, "teacher_cells": 1},
        **{"sweep_epochs": 2, "sweep_seeds": 1, "sweep_alphas": (0.0, 0.5), "sweep_temperatures": (1.0, 4.0)},
        **{"sweep_share": 1.0, "sweep_changes": 8},
        **{"few_shares": (0.3,), "few_seeds": 1},
        **{"recipe_epochs": 8, "recipe_seeds": (0, 1, 2)},
        **{"recipe_views": (1, 2, 4, 8, "online"), "recipe_losses": _LOSSES},
        **{"prune_fractions": (0.2, 0.4, 0.6, 0.8), "prune_epochs": 3},
        **{"mobilenet": "signs", "mobilenet_size": 32, "mobilenet_limit": 860, "mobilenet_epochs": (2, 2, 2)},
        **{"mobilenet_seeds": 1},
        **{"quiz_scale": "laptop", "ward": 90},
    },
    "full": {
        **{"limit": None, "seeds": (0, 1, 2, 3, 4), "epochs": 16, "batch_size": 128, "views": 4},
        **{"alpha": 0.0, "temperature": 10.0},
        **{"teacher_epochs": 14, "teacher_width": 64, "teacher_batch_size": 32, "teacher_limit": None},
        **{"teacher_strength": 1.0},
        **{"drawn": 20_000, "teacher_drawn": 20_000, "teacher_cells": 1},
        **{"sweep_epochs": 16, "sweep_seeds": 1, "sweep_share": 0.3},
        **{"sweep_alphas": (0.0, 0.1, 0.5, 0.9), "sweep_temperatures": (1.0, 4.0, 10.0)},
        **{"few_shares": (0.03, 0.1, 0.3), "few_seeds": 3},
        **{"recipe_epochs": 12, "recipe_seeds": (0, 1, 2, 3, 4)},
        **{"recipe_views": (1, 2, 4, 8, "online"), "recipe_losses": _LOSSES},
        **{"prune_fractions": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "prune_epochs": 4},
        **{"mobilenet": "imagenet", "mobilenet_size": 64, "mobilenet_limit": None, "mobilenet_epochs": (12, 2, 10)},
        **{"mobilenet_seeds": 5},
        **{"quiz_scale": "laptop", "ward": 90},
    },
}
# The teacher of this data set ships with the package: laptop scale borrows its amounts from full, so that it is found.
_SHIPPED = "gtsrb"


def home(environ=None):
    """Return the folder (`Path`) for archives, datasets and artifacts: KD_HOME, or ~/.cache/kd_lib.

    Raises:
        ValueError: it is a file, or lies in one.
    """
    value = (os.environ if environ is None else environ).get("KD_HOME", "")
    folder = Path(value).expanduser().resolve() if value else Path.home() / ".cache" / "kd_lib"
    for place in (folder, *folder.parents):
        if place.is_file():
            raise ValueError(f"KD_HOME must be a folder: {folder} cannot be one, {place} is a file.")
    return folder


def data_choice(choice):
    """Return a data set's name as it is, a folder as an absolute path; ValueError for anything else."""
    from kd_lib.builders import NAMES  # imports NumPy, which `import kd_lib` does without

    return _choice(choice, NAMES, Path.is_dir, "data set", "the path of an existing folder (variable KD_DATA)")


def data_name(choice):
    """Return what results call a data set: its name, or that of its folder, told apart from the names of data sets."""
    from kd_lib.builders import NAMES

    name = Path(choice).name
    return f"{name}-folder" if choice != name and name in NAMES else name


def _mobilenet_choice(choice):
    names = ("imagenet", "signs")
    return _choice(
        choice, names, Path.is_file, "weights of MobileNetV2", "an existing weights file (variable KD_MOBILENET)"
    )


def _choice(choice, names, exists, kind, otherwise):
    """A name as it is, a file or folder as an absolute path: notebooks run in a folder of their own."""
    path = Path(choice).expanduser()
    if choice not in names and not exists(path):
        raise ValueError(f"Unknown {kind} {str(choice)!r}. Choose one of: {', '.join(names)}, or {otherwise}.")
    return choice if choice in names else str(path.resolve())


@dataclass(frozen=True)
class Scale:
    """The amounts and places of one run. Make it with `Scale.from_env()` or `Scale.named(...)`.

    Attributes:
        name: "smoke", "laptop" or "full".
        data: the data set's name, or a folder (KD_DATA).
        home: folder for archives, data sets and artifacts (KD_HOME).
        mobilenet: where MobileNetV2's weights come from (KD_MOBILENET): "imagenet", "signs" or a weights file.
        limit: images in each split at most; None for all.
        seeds: one training of each student per seed.
        sweep_seeds: how many of them notebook 03 gives to each change of the recipe.
        sweep_changes: how many such changes it tries at most; None for all.
        sweep_share: of the physical signs to learn from, in the trainings by which notebooks 03, 04 and 06 choose; the
            others are what they are judged on.
        epochs, teacher_epochs, sweep_epochs: passes over the training images.
        batch_size, teacher_batch_size: images a step.
        drawn, teacher_drawn: drawn signs among the training images of students and teacher; 0 where classes are others.
        teacher_width, teacher_cells: `stream_width` and `cells` of the teacher.
        teacher_limit: images in each split for the teacher at most; None for all.
        teacher_strength: of the views that the teacher is shown.
        sweep_alphas, sweep_temperatures: the grid that notebook 04 tries on validation images.
        few_shares, few_seeds: of the physical signs, and how many seeds of each, where notebook 04 has few signs.
        recipe_epochs, recipe_seeds: epochs and seeds of the many trainings of notebook 06.
        recipe_views, recipe_losses: the numbers of views and the losses that are tried there.
        prune_fractions: shares of channels that notebook 07 takes away.
        prune_epochs: passes in which a pruned student recovers.
        quiz_scale: name of the scale whose drawn-sign networks compete with the reader.
        ward: images of each sign on which the trainings of notebook 10 go wrong.
        views: K, the number of fixed views of each image that the student is shown.
        mobilenet_size: pixels, the side of MobileNetV2's input.
        mobilenet_limit: images in each split for MobileNetV2 at most; None for all.
        mobilenet_epochs: epochs of its pretraining on drawn signs, of its head alone, and of its top.
        mobilenet_seeds: how many of the seeds have a student that it teaches.
        alpha, temperature: the distiller's settings.
    """

    name: str
    data: str
    home: Path
    mobilenet: str
    limit: int | None
    seeds: tuple
    sweep_seeds: int
    epochs: int
    batch_size: int
    views: int
    teacher_epochs: int
    teacher_width: int
    teacher_cells: int
    teacher_batch_size: int
    teacher_limit: int | None
    teacher_strength: float
    drawn: int
    teacher_drawn: int
    sweep_epochs: int
    sweep_share: float
    sweep_alphas: tuple
    sweep_temperatures: tuple
    few_shares: tuple
    few_seeds: int
    recipe_epochs: int
    recipe_seeds: tuple
    recipe_views: tuple
    recipe_losses: tuple
    prune_fractions: tuple
    prune_epochs: int
    quiz_scale: str
    ward: int
    mobilenet_size: int
    mobilenet_limit: int | None
    mobilenet_epochs: tuple
    mobilenet_seeds: int
    sweep_changes: int | None = None
    alpha: float = 0.1
    temperature: float = 4.0

    @classmethod
    def from_env(cls, environ=None, *, name=None, data=None):
        """Read KD_SCALE (default laptop), KD_DATA (signs), KD_HOME (~/.cache/kd_lib) and KD_MOBILENET.

        Args:
            environ: dict to read instead of the environment.
            name, data: what counts instead of KD_SCALE and KD_DATA, if not None.

        Raises:
            ValueError: for an unknown scale, data set or choice of weights; the message lists the valid ones.
        """
        environ = os.environ if environ is None else environ
        return cls.named(
            name or environ.get("KD_SCALE") or "laptop",
            data=data or environ.get("KD_DATA") or "signs",
            home_folder=home(environ),
            mobilenet=environ.get("KD_MOBILENET") or None,
        )

    @classmethod
    def named(cls, name, *, data="signs", home_folder=None, mobilenet=None):
        """Return the scale called `name`; see `from_env` for the meaning of the rest."""
        if name not in _AMOUNTS:
            raise ValueError(f"Unknown scale {name!r}. Choose one of: {', '.join(_AMOUNTS)} (variable KD_SCALE).")
        amounts = dict(_AMOUNTS[name])
        if name == "laptop" and data == _SHIPPED:
            amounts |= {key: value for key, value in _AMOUNTS["full"].items() if key.startswith("teacher_")}
        if data not in ("signs", _SHIPPED):
            amounts |= {"drawn": 0, "teacher_drawn": 0}
        if mobilenet is not None:
            amounts["mobilenet"] = _mobilenet_choice(mobilenet)
        return cls(name=name, data=data_choice(data), home=home_folder or home(), **amounts)

    def export(self):
        """Set the environment variables to this scale, for the processes that are started from here."""
        values = (self.name, self.data, str(self.home), self.mobilenet)
        os.environ.update(zip(VARIABLES, values, strict=True))

    @property
    def sweep(self):
        """The Scale of the trainings by which notebooks 03, 04 and 06 choose: their epochs, and drawn signs in
        proportion to the photographs that they learn from."""
        drawn = {name: round(self.sweep_share * getattr(self, name)) for name in ("drawn", "teacher_drawn")}
        return replace(self, epochs=self.sweep_epochs, **drawn)

    @property
    def quiz(self):
        """The Scale, on drawn signs, of the networks that compete with the reader."""
        return Scale.named(self.quiz_scale, home_folder=self.home)

    @property
    def archives(self):
        """Folder of the data sets' official archives."""
        return self.home / "archives"

    @property
    def datasets(self):
        """Folder of the arrays made from the archives."""
        return self.home / "datasets"

    @property
    def artifacts(self):
        """Folder of trained models."""
        return self.home / "artifacts"

    @property
    def results(self):
        """File that this run's result rows go to; the committed ones stand in figures/results.json."""
        return self.home / "results.json"

    @property
    def data_name(self):
        """What results call the data set."""
        return data_name(self.data)

    @property
    def figures(self):
        """Folder that this run's figures go to; `results --publish` copies those of the committed run."""
        return self.home / "figures" / f"{self.name}-{self.data_name}"

    def __str__(self):
        images = "all images" if self.limit is None else f"at most {self.limit:,} images a split"
        return (
            f"scale {self.name} on {self.data}: {images}, {self.epochs} epochs a student, "
            f"{self.teacher_epochs} a teacher, seeds {', '.join(map(str, self.seeds))}"
        )


def tell_workers(counters, **told):
    """Leave word for the server's worker processes, which are started without arguments.

    Args:
        counters: folder in which they count together (read by Prometheus' client when it is imported).
        **told: plain values, which `told_to_workers` returns.
    """
    os.environ.update(PROMETHEUS_MULTIPROC_DIR=str(counters), KD_SERVE=json.dumps(told))


def told_to_workers():
    """Return what `tell_workers` left, a dict, or None in a process that is no such worker."""
    return json.loads(os.environ.get("KD_SERVE", "null"))
