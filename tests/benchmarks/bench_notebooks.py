"""Seconds that each notebook takes: at smoke and laptop scale with nothing trained before, at full scale on GTSRB with
the networks at hand."""

import os
import tempfile
from pathlib import Path

from kd_lib.scale import VARIABLES, Scale
from kd_lib.walk import NOTEBOOKS, walk

NUMBERS = sorted(path.name[:2] for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
DATA = {"smoke": "signs", "laptop": "signs", "full": "gtsrb"}


def measure(options):
    """Yield rows ("notebook 02, laptop", "s", {"value": seconds}); a notebook that fails is told and has none."""
    before = {name: os.environ.get(name, "") for name in VARIABLES}
    for name in options.scales:
        with tempfile.TemporaryDirectory() as folder:
            place = {} if name == "full" else {"home_folder": Path(folder)}
            steps = walk(Scale.named(name, data=DATA[name], **place), only=options.notebooks, build=Path(folder))
        os.environ.update(before)
        for step in steps:
            if not step.failed:
                yield f"notebook {step.name[:2]}, {name}", "s", {"value": step.seconds}
