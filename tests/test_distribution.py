"""One device or two under tf.distribute.MirroredStrategy: the same pixels give the same weights and the same metrics.

Each strategy has a process of its own (two in one process can crash); both train every case and leave their numbers.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
CASES = ("plain", "kd", "losses", "features", "weights", "dist", "rkd")
PER_REPLICA = ("dist", "rkd")

SCRIPT = f"""
import sys
replicas, target = int(sys.argv[1]), sys.argv[2]
sys.path[:0] = sys.argv[3:]
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from keras import layers
from kd_lib import Distiller

def network(seed, channels=4):
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((8, 8, 3))
    x = layers.Rescaling(1 / 128, offset=-1.0)(inputs)
    x = layers.Conv2D(channels, 3, strides=2, padding="same", name="conv", kernel_regularizer="l2")(x)
    x = layers.BatchNormalization(momentum=0.9, synchronized=True, name="bn")(x)
    x = layers.Flatten(name="flat")(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(5, name="logits")(x))

generator = np.random.default_rng(0)
x = generator.uniform(0, 255, (24, 8, 8, 3)).astype("float32")
y = generator.integers(0, 5, 24)
answers = generator.normal(0, 3, (24, 5)).astype("float32")
weights = generator.uniform(0, 2, 24).astype("float32")
options = {{
    "plain": {{"alpha": 1.0}},
    "losses": {{"loss": {{"dkd": 1.0, "standardized_kd": 1.0}}}},
    "features": {{"features": [("conv", "conv", "hint", 1.0), ("conv", "bn", "attention")]}},
    "dist": {{"loss": "dist"}},
    "rkd": {{"loss": None, "features": [("flat", "flat", "rkd", 0.1)]}},
}}
found = {{}}
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"][:replicas])
for case in {CASES!r}:
    with strategy.scope():
        teacher = network(1, channels=6 if case == "features" else 4)
        cached = case in ("weights", "dist")
        distiller = Distiller(network(0), None if cached or case == "plain" else teacher, **options.get(case, {{}}))
        distiller.compile(keras.optimizers.SGD(0.05), jit_compile=False)
    targets = {{"label": y, "teacher_logits": answers}} if cached else y
    sample_weight = weights if case == "weights" else None
    fit = {{"batch_size": 12, "epochs": 2, "shuffle": False, "verbose": 0, "sample_weight": sample_weight}}
    logs = distiller.fit(x, targets, **fit).history
    for number, value in enumerate(distiller.student.get_weights()):
        found[f"{{case}}/weight/{{number}}"] = value
    for name, values in logs.items():
        found[f"{{case}}/log/{{name}}"] = values
with strategy.scope():
    whole = network(1)
    try:
        Distiller(network(0), keras.Model(whole.inputs, layers.Lambda(tf.nn.softmax)(whole.outputs[0])))
    except ValueError as error:
        found["refused"] = str(error)
np.savez(target, **found)
"""


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """What one and two replicas found: {replicas: {name: array}}."""
    folder, found = tmp_path_factory.mktemp("replicas"), {}
    for replicas in (1, 2):
        path = folder / f"{replicas}.npz"
        command = [sys.executable, "-c", SCRIPT, str(replicas), str(path), str(HERE.parent)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert path.exists(), result.stderr[-3000:]
        with np.load(path) as arrays:
            found[replicas] = {name: arrays[name] for name in arrays.files}
    return found


def of_case(found, case, kind):
    return {name: value for name, value in found.items() if name.startswith(f"{case}/{kind}/")}


@pytest.mark.parametrize("case", [case for case in CASES if case not in PER_REPLICA])
def test_two_replicas_make_the_updates_of_one(case, numbers):
    one, two = (of_case(numbers[replicas], case, "weight") for replicas in (1, 2))
    assert len(one) == 8 and set(one) == set(two)
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", [case for case in CASES if case not in PER_REPLICA])
def test_two_replicas_show_the_metrics_of_one(case, numbers):
    one, two = (of_case(numbers[replicas], case, "log") for replicas in (1, 2))
    assert {name.split("/")[-1] for name in one} >= {"loss", "label_loss", "accuracy"} and set(one) == set(two)
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, err_msg=name)


def test_a_teacher_that_answers_probabilities_is_refused_within_a_strategy(numbers):
    assert all("answers probabilities" in str(found["refused"]) for found in numbers.values())


@pytest.mark.parametrize("case", PER_REPLICA)
def test_losses_that_compare_images_are_computed_in_each_replica(case, numbers):
    """Six images a replica are compared with each other instead of twelve: another number, of the same size."""
    one, two = (of_case(numbers[replicas], case, "log")[f"{case}/log/distillation_loss"] for replicas in (1, 2))
    assert np.isfinite(two).all() and not np.allclose(one, two, rtol=1e-4)
    np.testing.assert_allclose(two, one, rtol=0.5)
