"""Tests of kd_lib.artifacts: written whole or not at all, found by everything that decides them, never unpickled."""

import dataclasses
import errno
import functools
import json
import linecache
import pickle
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import keras
import numpy as np
import pytest
from keras import layers

from kd_lib import Distiller, artifacts, training
from kd_lib.artifacts import (
    Artifact,
    describe_model,
    fingerprint,
    key_of,
    load_weights,
    save_weights,
    source_of,
)

RECORD = {"history": {"loss": [1.0], "final_val_accuracy": [0.9]}, "seconds": 2.0, "weights": True}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(artifacts, "SHIPPED", (tmp_path / "shipped",))
    return tmp_path / "home"


def network(seed=0, units=4, rate=0.0, activation="relu", name="network"):
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((6,), name="x")
    x = layers.Dense(units, activation=activation, name="hidden")(inputs)
    x = layers.Dropout(rate, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x), name=name)


def rounded(model):
    return [np.asarray(value, np.float16).astype(np.float32) for value in model.get_weights()]


def assert_weights(model, values):
    for found, expected in zip(model.get_weights(), values, strict=True):
        np.testing.assert_array_equal(found, expected)


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# Weights


def test_a_disk_that_fills_while_writing_leaves_the_old_weights(tmp_path):
    path = tmp_path / "weights.npz"
    save_weights(network(), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands for the full disk
    try:
        with pytest.raises(OSError, match=f"Could not write {path}: File too large"):
            save_weights(network(seed=1, units=2000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and names(tmp_path) == ["weights.npz"]


def test_weights_come_back_rounded_to_float16(tmp_path):
    model, other = network(), network(seed=1)
    save_weights(model, tmp_path / "weights.npz")
    load_weights(other, tmp_path / "weights.npz")
    assert_weights(other, rounded(model))
    assert not np.array_equal(model.get_weights()[0], other.get_weights()[0])
    assert all(value.dtype == np.float32 for value in other.get_weights())


def test_a_weight_that_is_no_number_is_named_and_nothing_is_written(tmp_path):
    model = network()
    model.get_layer("hidden").bias.assign([0, float("nan"), 0, 0])
    with pytest.raises(ValueError, match="hidden/bias of network is not finite"):
        save_weights(model, tmp_path / "weights.npz")
    assert not names(tmp_path)


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path):
    save_weights(network(units=5), tmp_path / "weights.npz")
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match="do not fit the 4 weights of network"):
        load_weights(model, tmp_path / "weights.npz")
    assert_weights(model, before)


class Trap:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "weights.npz"
    objects = np.empty(1, object)
    objects[0] = Trap(trap)
    for write in (lambda: np.savez(path, **{"0000": objects}), lambda: path.write_bytes(pickle.dumps(Trap(trap)))):
        write()
        with pytest.raises(ValueError):
            load_weights(network(), path)
    assert not trap.exists()
    pickle.loads(path.read_bytes()).close()  # the trap works
    assert trap.exists()


# Artifacts


def test_what_was_saved_is_found_and_loaded():
    model, other = network(), network(seed=1)
    artifact = Artifact("student", {"a": 1})
    assert artifact.find() is None and artifact.load(other) is None
    artifact.save(model, RECORD)
    found = Artifact("student", {"a": 1}).load(other)
    assert {name: found[name] for name in RECORD} == RECORD
    assert_weights(other, rounded(model))
    assert json.loads((artifact.folder / "config.json").read_text()) == {"a": 1}
    assert Artifact("student", {"a": 2}).find() is None and Artifact("teacher", {"a": 1}).find() is None


def test_an_artifact_is_found_under_its_name_and_key_in_kd_home(home):
    artifact = Artifact("student", {"a": 1})
    assert artifact.folder == home / "artifacts" / f"student-{artifact.key}" and len(artifact.key) == 12


def test_without_weights_the_history_alone_is_kept():
    artifact = Artifact("sweep", {})
    artifact.save(network(), {**RECORD, "weights": False})
    assert "weights.npz" not in names(artifact.folder)
    model = network(seed=1)
    before = model.get_weights()
    assert artifact.load(model)["history"] == RECORD["history"]
    assert_weights(model, before)


def test_an_artifact_that_was_not_finished_is_not_found(monkeypatch):
    def full(model, path):
        raise OSError(errno.ENOSPC, "full")

    artifact = Artifact("student", {})
    monkeypatch.setattr(artifacts, "save_weights", full)
    with pytest.raises(OSError, match="full"):
        artifact.save(network(), RECORD)
    assert artifact.find() is None


def test_kd_homes_own_artifact_comes_before_the_one_that_comes_with_the_project(tmp_path):
    artifact = Artifact("student", {})
    artifact.save(network(), RECORD)
    shutil.copytree(artifact.folder, tmp_path / "shipped" / artifact.folder.name)
    assert artifact.find() == artifact.folder
    shutil.rmtree(artifact.folder)
    assert artifact.find() == tmp_path / "shipped" / artifact.folder.name
    assert artifact.load(network(seed=1)) is not None


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


CORRUPTIONS = {
    "cut weights": lambda folder: cut(folder / "weights.npz"),
    "no weights": lambda folder: (folder / "weights.npz").unlink(),
    "empty weights": lambda folder: (folder / "weights.npz").write_bytes(b""),
    "a flipped byte": lambda folder: _flip(folder / "weights.npz"),
    "weights of another network": lambda folder: save_weights(network(units=9), folder / "weights.npz"),
    "half a history": lambda folder: (folder / "history.json").write_text('{"history": {"lo'),
    "an empty history": lambda folder: (folder / "history.json").write_text("{}"),
    "a history without an end": lambda folder: (folder / "history.json").write_text(
        '{"history": {}, "seconds": 1, "weights": true}'
    ),
    "a history that is a list": lambda folder: (folder / "history.json").write_text("[]"),
}


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupt_artifact_is_reported_removed_and_made_again(kind):
    artifact, model = Artifact("student", {}), network()
    artifact.save(model, RECORD)
    CORRUPTIONS[kind](artifact.folder)
    other = network(seed=1)
    before = other.get_weights()
    with pytest.warns(UserWarning, match=f"{artifact.folder.name} is corrupt.*made again"):
        assert artifact.load(other) is None
    assert_weights(other, before)
    assert not artifact.folder.exists()
    artifact.save(model, RECORD)
    assert artifact.load(other) is not None


def test_a_lost_config_is_written_again():
    artifact = Artifact("student", {"epochs": 3})
    artifact.save(network(), RECORD)
    before = (artifact.folder / "config.json").read_text()
    (artifact.folder / "config.json").unlink()
    assert artifact.load(network(seed=1)) is not None
    assert (artifact.folder / "config.json").read_text() == before


@pytest.mark.parametrize("name", ["", "a/../../b", "..", "a\\b"])
def test_a_name_that_would_leave_the_folder_of_artifacts_is_refused(name):
    with pytest.raises(ValueError, match="no slashes"):
        Artifact(name, {})


REFUSED = {
    "too many open files": (np, "load", OSError(errno.EMFILE, "Too many open files")),
    "a failing disk": (np, "load", OSError(errno.EIO, "Input/output error")),
    "no permission": (Path, "read_text", PermissionError(errno.EACCES, "Permission denied")),
    "no memory": (np, "load", MemoryError("no memory")),
    "no room in the network's memory": (keras.Model, "set_weights", RuntimeError("no memory on the device")),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("error")
def test_an_artifact_that_cannot_be_read_now_is_kept_for_later(kind, monkeypatch):
    owner, name, error = REFUSED[kind]
    artifact = Artifact("student", {})
    artifact.save(network(), RECORD)
    before, other = names(artifact.folder), network(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, Mock(side_effect=error))
        with pytest.raises(type(error), match=str(error).rpartition("] ")[2]):
            artifact.load(other)
    assert names(artifact.folder) == before
    assert artifact.load(other) is not None
    assert_weights(other, rounded(network()))


def test_a_corrupt_artifact_of_the_project_is_reported_and_left_where_it_is(tmp_path):
    artifact = Artifact("student", {})
    artifact.save(network(), RECORD)
    shipped = tmp_path / "shipped" / artifact.folder.name
    shutil.move(artifact.folder, shipped)
    cut(shipped / "weights.npz")
    with pytest.warns(UserWarning, match="corrupt"):
        assert artifact.load(network()) is None
    assert shipped.exists()


def test_behind_a_corrupt_artifact_that_of_the_project_is_found(tmp_path):
    artifact = Artifact("student", {})
    artifact.save(network(), RECORD)
    shutil.copytree(artifact.folder, tmp_path / "shipped" / artifact.folder.name)
    cut(artifact.folder / "weights.npz")
    other = network(seed=1)
    with pytest.warns(UserWarning, match="corrupt"):
        assert artifact.load(other) is not None
    assert_weights(other, rounded(network()))


def test_weights_that_float16_cannot_hold_are_kept_in_float32(tmp_path):
    model = network()
    first, *others = model.get_weights()
    model.set_weights([first * 0 + 1e6 + 0.5, *others])
    artifacts.round_weights(model)
    save_weights(model, tmp_path / "weights.npz")
    other = network(seed=1)
    load_weights(other, tmp_path / "weights.npz")
    assert_weights(other, model.get_weights())
    assert other.get_weights()[0].ravel()[0] == 1e6 + 0.5


# Keys


def custom(source_of_call):
    namespace = {}
    lines = f"class Own(layers.Layer):\n    def call(self, x):\n        return {source_of_call}\n"
    name = f"<own {source_of_call}>"
    linecache.cache[name] = (len(lines), None, lines.splitlines(keepends=True), name)
    exec(compile(lines, name, "exec"), {"layers": layers, "__name__": "__main__"}, namespace)
    return namespace["Own"]()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: layers.GaussianNoise(0.1), lambda: layers.GaussianNoise(0.2)),
        (lambda: layers.RandomRotation(0.1), lambda: layers.RandomRotation(0.3)),
        (lambda: layers.Reshape((3, 2)), lambda: layers.Reshape((2, 3))),
        (lambda: layers.ReLU(threshold=0.1), lambda: layers.ReLU()),
        (lambda: layers.Dense(6, kernel_constraint="non_neg"), lambda: layers.Dense(6)),
        (lambda: custom("x"), lambda: custom("x + 1")),
        (lambda: lambda x: x * 2.0, lambda: lambda x: x * 3.0),
        (lambda: lambda x: x * 2.0, lambda: lambda x: x + 2.0),
    ],
    ids=["noise", "rotation", "reshape", "threshold", "constraint", "own source", "constant", "operation"],
)
def test_settings_sources_and_operations_tell_networks_apart(one, other):
    def described(layer):
        inputs = layers.Input((6,))
        x = layers.Reshape((6, 1, 1))(inputs) if "Rotation" in type(layer).__name__ else inputs
        return describe_model(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layer(x)))))

    assert json.dumps(described(one())) == json.dumps(described(one())) != json.dumps(described(other()))


def test_the_key_depends_on_every_fact_and_not_on_their_order():
    facts = {"a": 1, "b": {"c": [1, 2], "d": "x"}}
    assert key_of(facts) == key_of({"b": {"d": "x", "c": [1, 2]}, "a": 1})
    others = ({"a": 2, "b": facts["b"]}, {"a": 1}, {**facts, "e": None}, {"a": 1, "b": {"c": [2, 1], "d": "x"}})
    assert len({key_of(facts), *map(key_of, others)}) == 5


def test_a_model_is_described_by_what_decides_its_training():
    frozen = network()
    frozen.get_layer("hidden").trainable = False
    nested = keras.Sequential([layers.Input((6,)), network(name="inside")], name="network")
    nested_other = keras.Sequential([layers.Input((6,)), network(units=5, name="inside")], name="network")
    different = [
        network(),
        network(units=5),
        network(rate=0.1),
        network(activation="tanh"),
        frozen,
        nested,
        nested_other,
    ]
    described = [json.dumps(describe_model(model)) for model in different]
    assert len(set(described)) == len(different)
    assert describe_model(network(seed=0)) == describe_model(network(seed=7)), "weights are not part of it"


def test_a_fingerprint_tells_weights_apart_at_the_precision_in_which_they_are_kept(tmp_path):
    model, other = network(), network(seed=1)
    assert fingerprint(model) != fingerprint(other)
    save_weights(model, tmp_path / "weights.npz")
    load_weights(other, tmp_path / "weights.npz")
    assert fingerprint(model) == fingerprint(other)


def facts_of(distiller=None, config=None, fingerprint=None):
    dataset = SimpleNamespace(fingerprint=fingerprint or {"name": "signs", "limit": 10})
    distiller = distiller or Distiller(network(), network(seed=1), alpha=0.1, temperature=4.0)
    config = config or training.Config(epochs=3)
    return key_of(training._facts(distiller, distiller.student, distiller.teacher, dataset, config))


OTHER_VALUES = {
    "epochs": 4, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.01, "warmup_epochs": 2.0, "ema": 0.9,
    "label_smoothing": 0.1, "balance": 0.5, "views": "online", "strength": 0.6, "seed": 1, "view_seed": 1,
    "refit": True, "keep_weights": False, "start": "signs", "mixup": 0.4, "drawn": 43,
    "decay": "none",
}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(training.Config)])
def test_every_field_of_the_configuration_enters_the_key(field):
    base = training.Config(epochs=3, views="online" if field == "mixup" else 4)
    changed = dataclasses.replace(base, **{field: OTHER_VALUES[field]})
    assert facts_of(config=base) == facts_of(config=base) != facts_of(config=changed)


def test_another_way_to_draw_views_enters_the_key_where_there_are_views(monkeypatch):
    configs = [training.Config(epochs=3), training.Config(epochs=3, views=None)]
    before = [facts_of(config=config) for config in configs]
    monkeypatch.setattr(training.views, "DRAWN", 2)
    after = [facts_of(config=config) for config in configs]
    assert before[0] != after[0] and before[1] == after[1]


def test_network_distiller_teacher_and_data_enter_the_key():
    teacher = network(seed=1)
    keys = [
        facts_of(),
        facts_of(Distiller(network(units=5), teacher)),
        facts_of(Distiller(network(), teacher, alpha=0.2)),
        facts_of(Distiller(network(), teacher, temperature=2.0)),
        facts_of(Distiller(network(), teacher, loss=lambda student, teacher, temperature: 0.0)),
        facts_of(Distiller(network(), network(seed=2))),
        facts_of(Distiller(network(), alpha=1.0)),
        facts_of(fingerprint={"name": "signs", "limit": 20}),
    ]
    assert len(set(keys)) == len(keys)


CELL = """
import keras
from kd_lib import Distiller as Base

class Distiller(Base):
    def compute_loss(self, *args, **options):
        return {factor} * super().compute_loss(*args, **options)
"""


def run_cell(source, number):
    """Run a cell as IPython does: in the module __main__, with its source known to linecache alone."""
    name = f"<ipython-input-{number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), namespace)
    return namespace["Distiller"]


def test_the_source_of_a_class_defined_in_a_notebook_enters_the_key():
    first, again, edited = (run_cell(CELL.format(factor=factor), cell) for cell, factor in enumerate((1.0, 1.0, 2.0)))
    assert "1.0 * super().compute_loss" in source_of(first)
    keys = [facts_of(kind(network(), network(seed=1))) for kind in (first, again, edited)]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] != facts_of(Distiller(network(), network(seed=1)))


LOSS_CELL = """
def halved(student_logits, teacher_logits, temperature):
    return {factor} * (student_logits - teacher_logits).sum(axis=-1)

class Distiller: halved = staticmethod(halved)
"""


def test_the_source_of_a_loss_that_is_not_the_librarys_enters_the_key():
    first, again, edited = (
        run_cell(LOSS_CELL.format(factor=factor), 10 + cell).halved for cell, factor in enumerate((0.5, 0.5, 0.25))
    )
    keys = [facts_of(Distiller(network(), network(seed=1), loss=loss)) for loss in (first, again, edited)]
    assert keys[0] == keys[1] != keys[2]


CALLING_CELL = """
POWER = {power}

def soft(logits, temperature):
    return [{factor} * value / temperature for value in logits]

class Distiller:
    def train_step(self, data):
        return (lambda x: soft(x, POWER))(data)
"""


def test_what_a_class_of_a_notebook_calls_by_name_enters_its_source():
    changes = [{}, {}, {"factor": 100}, {"power": 3}]
    cells = [CALLING_CELL.format(**({"factor": 1, "power": 2} | change)) for change in changes]
    first, again, other_function, other_number = (source_of(run_cell(cell, 30 + n)) for n, cell in enumerate(cells))
    assert first == again and len({first, other_function, other_number}) == 3


def test_functions_that_call_each_other_have_a_source():
    cell = "def even(n):\n    return n == 0 or odd(n - 1)\n\ndef odd(n):\n    return n != 0 and even(n - 1)\n\n"
    assert "odd(n - 1)" in source_of(run_cell(cell + "class Distiller:\n    even = staticmethod(even)\n", 40))


def test_values_that_a_loss_was_made_with_enter_its_source():
    def weighted(beta):
        return lambda student, teacher, temperature: beta * student

    def loss(student, teacher, temperature, beta=1):
        return beta * student

    assert source_of(weighted(2)) == source_of(weighted(2)) != source_of(weighted(8))
    assert source_of(functools.partial(loss, beta=2)) != source_of(functools.partial(loss, beta=8))


def test_parents_properties_and_constants_of_a_class_enter_its_source():
    def make(body, constant):
        class Parent:
            size = constant

            @property
            def half(self):
                return self.size / 2

        return type("Child", (Parent,), {"train_step": body})

    def one(self, data):
        return 1

    def two(self, data):
        return 2

    kinds = [make(one, 4), make(one, 4), make(two, 4), make(one, 5)]
    first, again, other_body, other_constant = map(source_of, kinds)
    assert first == again and len({first, other_body, other_constant}) == 3 and "self.size / 2" in first


def test_settings_and_wiring_of_a_network_enter_the_key():
    def build(skip=False, **settings):
        inputs = layers.Input((6,))
        first = layers.Dense(6, **settings)(inputs)
        second = layers.Dense(6)(first)
        return keras.Model(inputs, layers.Add()([first if skip else inputs, second]))

    models = [build(), build(skip=True), build(kernel_regularizer="l2"), build(kernel_initializer="zeros")]
    models += [build(kernel_regularizer=keras.regularizers.L2(0.1)), build(dtype="mixed_float16")]
    assert len({json.dumps(describe_model(model)) for model in models}) == len(models)
    assert describe_model(build()) == describe_model(build())


def test_a_layer_that_another_network_uses_too_leaves_the_key_as_it_was():
    network = keras.Sequential([keras.Input((6,)), *(layers.Dense(6) for _ in range(3))])
    network = keras.Model(network.inputs, network.outputs)
    before = describe_model(network)
    keras.Sequential([keras.Input((6,)), network.layers[1], network.layers[3]])
    assert describe_model(network) == before


def test_a_thing_without_source_is_known_by_its_name():
    assert "lack" in source_of(eval("lambda: 'source'", {"__name__": "lack"}))


def test_publishing_copies_students_and_histories_of_the_committed_data(home, tmp_path, monkeypatch):
    committed = {"dataset": {"name": "gtsrb", "limit": None}}
    for name, facts, weights in [
        ("student-0.25-plain", committed, True),
        ("try-student", committed, False),
        ("teacher", committed, True),
        ("student-0.25-other", {"dataset": {"name": "gtsrb", "limit": 10}}, True),
    ]:
        Artifact(name, facts).save(network(), {**RECORD, "weights": weights})
    held = artifacts.publish(home / "artifacts", [committed["dataset"]], to=tmp_path / "figures" / "run")
    found = {path.parent.name.rpartition("-")[0]: set() for path in (tmp_path / "figures").rglob("*.json")}
    for path in (tmp_path / "figures").glob("run/*/*"):
        found[path.parent.name.rpartition("-")[0]].add(path.name)
    assert found["student-0.25-plain"] == {"config.json", "history.json", "architecture.json", "weights.npz"}
    assert found["try-student"] == found["teacher"] == {"config.json", "history.json"}
    assert len(found) == 3 and held > 0

    longer = Artifact("student-0.25-plain", committed | {"config": {"epochs": 32}})
    longer.save(network(), RECORD)
    artifacts.publish(home / "artifacts", [committed["dataset"]], [longer.key], to=tmp_path / "figures" / "run")
    students = [path.name for path in (tmp_path / "figures" / "run").glob("student-*")]
    assert students == [longer.folder.name], "one of the same name, which no row names, was made with other settings"
    drawn = Artifact("student-0.25-plain", {"dataset": {"name": "signs", "limit": 2580}})
    drawn.save(network(), RECORD)
    exercise = Artifact("exercise", drawn.facts)
    exercise.save(network(), RECORD)
    both = [committed["dataset"], drawn.facts["dataset"] | {"artifacts": "student-*"}]
    artifacts.publish(home / "artifacts", both, [longer.key], to=tmp_path / "figures" / "run")
    assert (tmp_path / "figures" / "run" / drawn.folder.name).exists(), "the same name on other data is another thing"
    assert not (tmp_path / "figures" / "run" / exercise.folder.name).exists()
    shutil.rmtree(drawn.folder)
    shutil.rmtree(exercise.folder)
    shutil.rmtree(tmp_path / "figures")
    shutil.rmtree(longer.folder)
    artifacts.publish(home / "artifacts", [committed["dataset"]], to=tmp_path / "figures" / "run")

    shutil.rmtree(home)
    monkeypatch.setattr(artifacts, "SHIPPED", (tmp_path / "figures" / "run",))
    assert Artifact("student-0.25-plain", committed).load(network()) and Artifact("try-student", committed).find()
    assert Artifact("teacher", committed).find() is None, "its weights are elsewhere, or have to be made"
    shipped = tmp_path / "pretrained" / Artifact("student-0.25-plain", committed).folder.name
    shipped.mkdir(parents=True)
    monkeypatch.setattr(artifacts, "SHIPPED", (tmp_path / "again", shipped.parent))
    Artifact("student-0.25-plain", committed).save(network(), RECORD)
    artifacts.publish(home / "artifacts", [committed["dataset"]], to=tmp_path / "again")
    assert not (tmp_path / "again").exists(), "what ships elsewhere is not copied"


@keras.saving.register_keras_serializable("test_artifacts")
class Shift(layers.Layer):
    """A layer of the user's own, without weights."""

    def __init__(self, by=1.0, name=None):
        super().__init__(name=name)
        self.by = by

    def call(self, x):
        return x + self.by

    def get_config(self):
        return {"by": self.by, "name": self.name}


def test_settings_of_ones_own_layers_enter_the_key():
    one, same, other = (
        describe_model(keras.Sequential([layers.Input((3,)), Shift(by), layers.Dense(2, name="logits")]))
        for by in (1.0, 1.0, 2.0)
    )
    assert one == same != other
