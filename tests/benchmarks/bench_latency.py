"""What an answer costs on one thread: compiled Keras call, Keras predict, and LiteRT with float32 and int8 files.

The networks have random weights: time does not depend on what they learned. `measure` starts a process of its own,
since TensorFlow takes its number of threads once, before anything runs. LiteRT answers one image at a time, so a batch
of 32 is 32 answers; Keras takes the batch at once.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from kd_lib.scale import REPOSITORY, Scale

from .timing import interleaved

BATCHES = (1, 32)
_COST = {"teacher": 20, "mobilenet_v2": 20, "student-1.0": 10}  # times as slow: fewer calls a round


def measure(options):
    """Return rows: milliseconds of an answer to one image, images per second of 32, bytes, and a ratio."""
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    code = "import sys; from tests.benchmarks import bench_latency; bench_latency.run_alone(*sys.argv[1:])"
    arguments = [str(options.rounds), str(options.calls), ",".join(options.networks)]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.rpartition("rows ")[2])


def run_alone(rounds, calls, chosen):
    """Measure the networks called `chosen` (names with commas between) and print the rows as JSON."""
    rows, medians = [], {}
    for name in chosen.split(","):
        repeats = max(1, int(calls) // _COST.get(name, 1))
        with tempfile.TemporaryDirectory() as folder:
            runners, sizes = _runners(_network(name), Path(folder))
        rows += [(f"{name}, {kind}", "kB", {"value": size / 1e3}) for kind, size in sizes.items()]
        tasks = {
            (kind, batch): _repeated(run, batch, max(1, repeats // batch))
            for kind, run in runners.items()
            for batch in BATCHES
        }
        for (kind, batch), times in interleaved(tasks, int(rounds)).items():
            seconds = statistics.median(times) / max(1, repeats // batch)
            medians[name, kind, batch] = seconds
            number = ("ms", 1000 * seconds) if batch == 1 else ("images/s", batch / seconds)
            rows.append((f"{name}, {kind}, batch {batch}", number[0], {"value": number[1]}))
    for name in chosen.split(","):
        quick, slow = medians[name, "LiteRT int8", 1], medians[name, "compiled Keras call", 1]
        rows.append((f"{name}, an answer of LiteRT int8", "x compiled Keras call", {"ratio": quick / slow}))
    print("rows", json.dumps(rows))


def _repeated(run, batch, times):
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3)).astype(np.uint8)

    def task():
        for _ in range(times):
            run(images)

    return task


def _runners(network, folder):
    """Return ({kind of runner: function of uint8 images}, {kind of file: bytes})."""
    import tensorflow as tf

    from kd_lib import litert, quantization, signs

    images = signs.render(range(43), range(43), [29] * 43)
    files = {"LiteRT float32": litert.export(network, folder / "float.tflite", quantize=None)}
    try:
        twin = quantization.quantize_aware(network, images)
    except ValueError:  # no plain chain: the converter finds the ranges itself
        twin = network
    files["LiteRT int8"] = litert.export(twin, folder / "int8.tflite", representative=images)
    call = tf.function(lambda batch: network(batch, training=False))
    runners = {
        "compiled Keras call": lambda batch: call(tf.constant(batch)).numpy(),
        "Keras predict": lambda batch: network.predict(batch, verbose=0),
    }
    runners |= {kind: litert.Classifier(path).predict for kind, path in files.items()}
    return runners, {kind: path.stat().st_size for kind, path in files.items()}


def _network(name):
    import keras
    from keras import layers

    from kd_lib import models, pruning

    keras.utils.set_random_seed(0)
    if name == "teacher":
        full = Scale.named("full")  # the teacher of the committed run
        return models.teacher(43, stream_width=full.teacher_width, cells=full.teacher_cells, downsample=True)
    if name == "mobilenet_v2":
        inputs = layers.Input((32, 32, 3))
        return keras.Model(inputs, models.mobilenet_v2(43, weights=None)(inputs), name=name)
    student = models.student(43, width=float(name.split("-")[1]))
    if not name.endswith("pruned"):
        return student
    for layer in student.layers:  # as if trained: scales that differ
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(keras.random.uniform(layer.gamma.shape))
    return pruning.prune_channels(student, 0.5)
