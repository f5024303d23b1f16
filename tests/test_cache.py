"""Tests of kd_lib.cache: the teacher runs once, and its answers are those to the very views that the student sees."""

import dataclasses
import errno
import time
from types import SimpleNamespace
from unittest.mock import Mock

import keras
import numpy as np
import pytest
from keras import layers
from small import split, teacher

from kd_lib import Distiller, artifacts, cache, feeding
from kd_lib.keys import fingerprint, network_of
from kd_lib.training import Config, fit_or_load
from kd_lib.views import augment, view_table

FACTS = {"dataset": "tiny"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(artifacts, "SHIPPED", ())


def plan(labels=None, *, epochs=4, batch_size=7, views=3, **options):
    return feeding.plan(
        split().labels if labels is None else labels, epochs=epochs, batch_size=batch_size, views=views, **options
    )


def _silent(line, end="\n"):
    pass


def cached(teacher, split, table, *, strength=1.0, facts=FACTS, progress=_silent):
    """The teacher's answers, with the facts that `cache_logits` would give them."""
    views = None if table is None else len(table)
    facts = facts | {"teacher": fingerprint(teacher), "teacher_network": network_of(teacher)}
    facts = facts | {"strength": strength, "views": views}
    return cache.answers(teacher, split, table, strength=strength, facts=facts, progress=progress)


def test_cached_answers_are_the_teachers_on_the_very_view_rounded_to_float16():
    data, network, table = split(300), teacher(), view_table(300, 2, seed=1)  # more images than one call takes
    logits = cached(network, data, table, strength=0.8, facts=FACTS, progress=_silent)
    assert logits.shape == (2, 300, 3) and logits.dtype == np.float16
    for view in range(2):
        expected = network(augment(data.images, table[view], 0.8), training=False)
        np.testing.assert_allclose(logits[view], expected, rtol=1e-3, atol=1e-3)
    assert np.abs(logits[0] - logits[1]).max() > 0.01


def test_the_student_is_shown_the_view_that_the_teacher_answered():
    """The loop closed: batches and cached answers together are what a live teacher would say to each batch."""
    data, network, table, order = split(), teacher(), view_table(30, 3), plan()
    logits = cached(network, data, table, strength=1.0, facts=FACTS, progress=_silent)
    for images, y in feeding.batches(data, order, table, teacher_logits=logits):
        np.testing.assert_allclose(network(images, training=False), y["teacher_logits"], rtol=2e-3, atol=2e-3)


def test_cached_answers_without_augmentation_are_to_the_images_themselves():
    data, network = split(), teacher()
    logits = cached(network, data, None, strength=1.0, facts=FACTS, progress=_silent)
    np.testing.assert_allclose(logits[0], network(data.images.astype(np.float32)), rtol=1e-3, atol=1e-3)


def test_the_teacher_runs_once_and_its_answers_are_opened_the_second_time():
    data, network, table, lines = split(), teacher(), view_table(30, 2), []
    first = cached(network, data, table, strength=1.0, facts=FACTS, progress=lines.append)
    assert [line.split(",")[0] for line in lines] == [
        "teacher's answers: view 1 of 2",
        "teacher's answers: view 2 of 2",
    ]
    second = cached(network, data, table, strength=1.0, facts=FACTS, progress=lines.append)
    assert len(lines) == 2
    np.testing.assert_array_equal(first, second)


def test_answers_are_made_anew_for_another_teacher_strength_view_count_or_data_set():
    data, lines, table = split(), [], view_table(30, 1)
    changes = [
        {}, {"teacher": teacher(seed=1)}, {"strength": 0.5}, {"table": view_table(30, 2)}, {"table": None},
        {"facts": {"dataset": "other"}},
    ]  # fmt: skip
    for change in changes:
        options = {"teacher": teacher(), "split": data, "table": table, "strength": 1.0, "facts": FACTS} | change
        cached(**options, progress=lines.append)
    assert len(lines) == len(changes) + 1  # one of them has two views


@pytest.mark.parametrize("kind", ["cut", "empty", "another shape"])
def test_corrupt_answers_are_reported_and_made_again(kind, tmp_path):
    data, network, table = split(), teacher(), view_table(30, 2)
    options = {"strength": 1.0, "facts": FACTS, "progress": lambda line: None}
    expected = np.array(cached(network, data, table, **options))
    (path,) = (tmp_path / "home").rglob("logits.npy")
    if kind == "another shape":
        np.save(path, expected[:1])
    else:
        path.write_bytes(path.read_bytes()[: 150 if kind == "cut" else 0])
    with pytest.warns(UserWarning, match="logits.npy are corrupt.*made again"):
        np.testing.assert_array_equal(cached(network, data, table, **options), expected)


def test_answers_that_cannot_be_read_now_are_kept(tmp_path, monkeypatch):
    data, network, table = split(), teacher(), view_table(30, 2)
    expected = np.array(cached(network, data, table))
    monkeypatch.setattr(cache, "_fill", None)  # the teacher is not asked again
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        with pytest.raises(OSError, match="Too many open files"):
            cached(network, data, table)
    np.testing.assert_array_equal(cached(network, data, table), expected)


def test_a_teacher_with_a_smaller_input_answers_to_resized_views():
    data, network, table = split(size=16), teacher(size=8), view_table(30, 1)
    logits = cached(network, data, table, strength=1.0, facts=FACTS, progress=_silent)
    live = Distiller(teacher(), network).add_teacher_logits(augment(data.images, table[0]), data.labels)[
        "teacher_logits"
    ]
    np.testing.assert_allclose(logits[0], live, rtol=2e-3, atol=2e-3)


def test_the_answers_of_another_teacher_are_refused(tmp_path):
    network, other = teacher(), teacher(seed=1)
    cached(network, split(), view_table(30, 1))
    (path,) = (tmp_path / "home").rglob("logits.npy")
    assert cache.CachedLogits.open(path.parent, teacher=network).teacher_fingerprint == fingerprint(network)
    scaled = keras.Sequential([keras.Input(network.input_shape[1:]), keras.layers.Rescaling(0.25), network])
    assert fingerprint(scaled) == fingerprint(network) and network_of(scaled) != network_of(network)
    with pytest.raises(ValueError, match="another teacher's: .* has its weights, but other layers"):
        cache.CachedLogits.open(path.parent, teacher=scaled)
    with pytest.raises(ValueError, match=f"another teacher's: .* {fingerprint(network)}, .* {fingerprint(other)}"):
        cache.CachedLogits.open(path.parent, teacher=other)


def test_two_teachers_of_equal_weights_have_answers_and_students_of_their_own():
    network = teacher()
    scaled = keras.Sequential([keras.Input(network.input_shape[1:]), keras.layers.Rescaling(0.25), network])
    config = Config(epochs=1, batch_size=10, views=1)
    data = SimpleNamespace(train=split(), validation=split(), fingerprint={"name": "d"}, name="d", class_names="abc")
    answers = [cache.cache_logits(one, data, config, progress=False).logits for one in (network, scaled)]
    assert np.abs(np.float32(answers[0]) - answers[1]).max() > 0.1
    keys = [
        fit_or_load("s", Distiller(teacher(seed=3), one), data, config, progress=False).key for one in (network, scaled)
    ]
    assert keys[0] != keys[1]
    network.trainable = False
    assert cache.cache_logits(network, data, config, progress=False).facts["teacher_network"] == network_of(network)
    assert fit_or_load("s", Distiller(teacher(seed=3), network), data, config, progress=False).loaded


def test_the_seconds_of_a_teacher_are_added_up_and_are_no_result(tmp_path, monkeypatch):
    network, table = teacher(), view_table(30, 1)
    monkeypatch.setattr(cache, "_fill", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cached(network, split(), table)
    monkeypatch.undo()
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    (note,) = (tmp_path / "home").rglob("seconds.json")
    note.write_text("1000")
    fill = cache._fill
    monkeypatch.setattr(cache, "_fill", lambda *args: (time.sleep(0.2), fill(*args)))  # the note keeps tenths
    cached(network, split(), table)
    assert cache.CachedLogits.open(note.parent).seconds > 1000
    note.write_text("")
    assert cache.CachedLogits.open(note.parent).seconds == 0


# Broken off, and given to a distiller


class Stopped(Exception):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("damage", [0, 1, 3])
def test_caching_that_was_broken_off_goes_on_where_it_stopped(damage, monkeypatch, tmp_path):
    data, network, table, asked = split(1100), teacher(), view_table(1100, 2), []
    original = cache._asker

    def asker(stop_after):
        def make(*arguments):
            ask = original(*arguments)

            def counted(view, rows):
                if len(asked) == stop_after:
                    raise Stopped
                asked.append((view, rows.start))
                return ask(view, rows)

            return counted

        return make

    monkeypatch.setattr(cache, "_asker", asker(7))  # of ten: five blocks a view
    with pytest.raises(Stopped):
        cached(network, data, table)
    (part,) = (tmp_path / "home").rglob("logits.part")
    part.write_bytes(part.read_bytes()[: -damage or None])  # half a row, as a kill in the middle of a write leaves it
    monkeypatch.setattr(cache, "_asker", asker(-1))
    found = cached(network, data, table)
    again = asked[7:]
    assert again[0] == (1, 512 if not damage else 511) and again[-1][0] == 1 and not part.exists()
    monkeypatch.setattr(cache, "_asker", original)
    expected = cached(network, data, table, facts={"dataset": "elsewhere"})
    np.testing.assert_array_equal(found, expected)


def test_a_disk_without_room_is_refused_before_anything_is_asked(monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(OSError, match="logits.part needs 0 MB. Free some space"):
        cached(teacher(), split(), view_table(30, 2))


def test_answers_that_float16_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="not finite in float16"):
        cached(teacher(scale=1e9), split(), view_table(30, 1))


def data_set(seed=0):
    return SimpleNamespace(
        name="tiny",
        train=split(48, seed=seed),
        validation=split(12, seed=seed + 1),
        fingerprint={"name": "tiny", "seed": seed},
        num_classes=3,
    )


def student(seed=5):
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Rescaling(1 / 255)(inputs))))


CONFIG = Config(epochs=2, batch_size=16, views=2, view_seed=3)


def test_a_distiller_takes_cached_logits_for_its_teacher_and_learns_the_same():
    data, network = data_set(), teacher()
    found = cache.cache_logits(network, data, CONFIG, progress=False)
    assert found.logits.shape == (2, 48, 3)
    opened = cache.CachedLogits.open(artifacts.Artifact("teacher-logits", found.facts).folder)
    run = fit_or_load("a", Distiller(student(), opened), data, CONFIG, progress=False)
    live = fit_or_load("b", Distiller(student(), network), data, CONFIG, progress=False)
    assert run.key == live.key and run.history["loss"] == pytest.approx(live.history["loss"], rel=1e-6)


def test_two_teachers_are_cached_one_by_one_and_averaged():
    data, pair = data_set(), [teacher(), teacher(seed=1)]
    run = fit_or_load("a", Distiller(student(), pair), data, CONFIG, progress=False)
    live = fit_or_load(
        "b", Distiller(student(), pair), data, dataclasses.replace(CONFIG, views="online"), progress=False
    )  # two epochs, two views: the same
    assert run.history["distillation_loss"] == pytest.approx(live.history["distillation_loss"], rel=5e-3)


def test_one_of_two_teachers_may_be_cached_logits():
    data, pair = data_set(), [teacher(), teacher(seed=1)]
    kept = cache.cache_logits(pair[1], data, CONFIG, progress=False)
    options = {"teacher_weights": [1, 3]}
    run = fit_or_load("a", Distiller(student(), [pair[0], kept], **options), data, CONFIG, progress=False)
    both = fit_or_load("b", Distiller(student(), pair, **options), data, CONFIG, progress=False)
    assert run.key == both.key and run.history["loss"] == pytest.approx(both.history["loss"], rel=1e-6)
    other = dataclasses.replace(CONFIG, view_seed=9)
    with pytest.raises(ValueError, match="view table's seeds differ"):
        fit_or_load("c", Distiller(student(), [pair[0], kept]), data, other, progress=False)
    with pytest.raises(ValueError, match="Cached logits are read by kd_lib.fit_or_load"):
        alone = Distiller(student(), kept)
        alone.compile(run_eagerly=True)
        alone.fit(data.train.images, data.train.labels, verbose=0)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"view_seed": 4}, "view table's seeds"), ({"views": 3}, "numbers of views"), ({"strength": 0.7}, "strengths")],
)
def test_cached_logits_of_other_views_are_refused_and_the_difference_named(change, word):
    data = data_set()
    found = cache.cache_logits(teacher(), data, CONFIG, progress=False)
    with pytest.raises(ValueError, match=f"{word}.* differ"):
        config = dataclasses.replace(CONFIG, **change)
        fit_or_load("a", Distiller(student(), found), data, config, progress=False)


def test_cached_logits_of_other_data_are_refused():
    found = cache.cache_logits(teacher(), data_set(), CONFIG, progress=False)
    with pytest.raises(ValueError, match="its data differ.*'seed': 0.*'seed': 1"):
        fit_or_load("a", Distiller(student(), found), data_set(seed=1), CONFIG, progress=False)
    short = cache.CachedLogits(found.logits[:, :40], found.facts)
    with pytest.raises(ValueError, match="of 40 images, and the training has 48"):
        fit_or_load("a", Distiller(student(), short), data_set(), CONFIG, progress=False)


def test_cached_logits_need_fixed_views_and_the_right_classes():
    data = data_set()
    found = cache.cache_logits(teacher(), data, CONFIG, progress=False)
    online = dataclasses.replace(CONFIG, views="online")
    with pytest.raises(ValueError, match="nothing to cache"):
        cache.cache_logits(teacher(), data, online)
    with pytest.raises(ValueError, match="needs the teacher itself"):
        fit_or_load("a", Distiller(student(), found), data, online, progress=False)
    wide = cache.CachedLogits(np.zeros((2, 48, 4), np.float16), found.facts)
    with pytest.raises(ValueError, match="student with 3 classes, teacher with 4"):
        Distiller(student(), wide)


@pytest.mark.parametrize("damage", ["no folder", "cut", "another dtype"])
def test_a_folder_that_holds_no_whole_cache_is_named(damage, tmp_path):
    found = cache.cache_logits(teacher(), data_set(), CONFIG, progress=False)
    folder = artifacts.Artifact("teacher-logits", found.facts).folder
    if damage == "no folder":
        folder = tmp_path / "nowhere"
    elif damage == "cut":
        (folder / "logits.npy").write_bytes((folder / "logits.npy").read_bytes()[:200])
    else:
        np.save(folder / "logits.npy", np.zeros((2, 48, 3)))
    with pytest.raises(ValueError, match=f"{folder}.*holds"):
        cache.CachedLogits.open(folder)
