"""Largest memory of whole processes: a distillation at the size of GTSRB, and one that only answers.

Each runs in a process of its own, which says at its end how much memory it held at most.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kd_lib.scale import REPOSITORY

TAIL = """
for line in open("/proc/self/status"):  # getrusage would tell the parent's memory too
    if line.startswith("VmHWM"):
        print("peak", line.split()[1])
"""
# 39,209 images, as many as GTSRB has, and drawn ones: two views, one epoch, a teacher that was never trained.
DISTILL = """
import numpy as np, sys
from kd_lib import Distiller, datasets, models, signs, training
count, width = int(sys.argv[1]), int(sys.argv[2])
labels = (np.arange(count) % 43).astype(np.int32)
images = np.lib.format.open_memmap("images.npy", "w+", np.uint8, (count, 32, 32, 3))
for start in range(0, count, 4096):
    rows = np.arange(start, min(start + 4096, count))
    images[rows] = signs.render(labels[rows], rows // 30, rows % 30)
images = np.load("images.npy", mmap_mode="r")
ids = np.char.add("i", np.arange(count).astype(str))
split = datasets.Split(images, labels, np.arange(count) // 30, ids)
few = split.subset(slice(0, 430))
data = datasets.Dataset("memory", signs.CLASS_NAMES, 32, split, few, few, content={"count": count})
teacher = models.teacher(43, stream_width=width, downsample=True)
distiller = Distiller(models.student(43, width=0.25), teacher)
training.fit_or_load("memory", distiller, data, training.Config(epochs=1, views=2, drawn=count // 2), progress=False)
"""
ANSWER = {
    "LiteRT": """
import numpy as np, sys
from kd_lib.litert import Classifier
Classifier(sys.argv[1]).predict(np.zeros((32, 32, 32, 3), np.uint8))
""",
    "Keras": """
import numpy as np
from kd_lib import models
models.student(43, width=0.25).predict(np.zeros((32, 32, 32, 3), np.uint8), verbose=0)
""",
}


def measure(options):
    """Return rows (name, "MB", {"value": largest resident memory}); none where the system does not tell."""
    if sys.platform != "linux":
        print("skipped: memory is measured on Linux alone")
        return []
    from kd_lib import litert, models, quantization, signs

    with tempfile.TemporaryDirectory() as folder:
        student = models.student(43, width=0.25)
        aware = quantization.quantize_aware(student, signs.render(range(43), range(43), [29] * 43))
        path = litert.export(aware, Path(folder) / "student.tflite")
        rows = [
            (f"memory of a process that answers, {name}", "MB", {"value": _peak(code, folder, path)})
            for name, code in ANSWER.items()
        ]
        distilled = _peak(DISTILL, folder, options.memory_images, options.teacher_width)
    return [
        *rows,
        (
            f"memory of a distillation, {options.memory_images:,} images and half as many drawn, 32 px",
            "MB",
            {"value": distilled},
        ),
    ]


def _peak(code, folder, *arguments):
    environment = {**os.environ, "KD_HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code + TAIL, *map(str, arguments)]
    result = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return int(result.stdout.rpartition("peak ")[2]) / 1024
