"""Tests of kd_lib.feeding: the seed alone decides the order, and the teacher saw what the student sees."""

import dataclasses

import keras
import numpy as np
import pytest
import small
from small import split

from kd_lib import artifacts, feeding
from kd_lib.datasets import Dataset, Split
from kd_lib.signs import CLASS_NAMES
from kd_lib.training import Config
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


# The order


def test_a_plan_is_a_pure_function_of_its_seed():
    np.random.seed(0)
    first = plan(seed=5)
    np.random.seed(1)
    keras.utils.set_random_seed(2)
    second, other = plan(seed=5), plan(seed=6)
    for name in ("index", "view"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_a_longer_training_begins_like_a_shorter_one():
    short, long = plan(epochs=2), plan(epochs=5)
    np.testing.assert_array_equal(long.index[: len(short.index)], short.index)
    np.testing.assert_array_equal(long.view[: len(short.view)], short.view)


def test_an_epoch_shows_every_image_at_most_once_and_drops_other_ones_each_time():
    order = plan()
    assert order.steps_per_epoch == 4 and order.index.shape == order.view.shape == (16, 7)
    assert order.index.dtype == order.view.dtype == np.int32
    epochs = order.index.reshape(4, 28)
    assert all(len(set(epoch)) == 28 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4, "each epoch has an order of its own"
    dropped = [set(range(30)) - set(epoch) for epoch in epochs]
    assert len(set.union(*dropped)) > 2


def test_every_image_goes_round_all_its_views():
    order = feeding.plan(np.zeros(12, int), epochs=6, batch_size=12, views=3, seed=1)
    for image in range(12):
        seen = order.view[order.index == image]
        assert set(seen[:3]) == set(seen[3:]) == {0, 1, 2}
    assert len(set(order.view[0])) == 3, "not all images are in the same view at once"


def test_an_image_that_comes_twice_in_an_epoch_comes_in_another_view():
    labels = np.array([0] * 60 + [1] * 4)
    order = plan(labels, epochs=1, batch_size=64, views=16, balance=1.0)
    shown = list(zip(order.index.ravel().tolist(), order.view.ravel().tolist(), strict=True))
    assert len(set(shown)) == 64 > len(set(order.index.ravel().tolist()))


def test_without_views_there_is_one():
    assert not plan(views=None).view.any()


def test_a_batch_larger_than_the_data_is_all_of_it():
    order = plan(np.zeros(5, int), batch_size=128)
    assert order.steps_per_epoch == 1 and order.index.shape == (4, 5)


def test_class_aware_sampling_evens_out_the_classes():
    labels = np.repeat([0, 1, 2], [900, 90, 10])

    def shares(balance):
        order = feeding.plan(labels, epochs=20, batch_size=100, views=2, balance=balance)
        return np.bincount(labels[order.index.ravel()]) / order.index.size

    np.testing.assert_allclose(shares(0.0), [0.9, 0.09, 0.01], atol=1e-9)
    np.testing.assert_allclose(shares(1.0), [1 / 3] * 3, atol=0.02)
    root = np.sqrt([0.9, 0.09, 0.01])
    np.testing.assert_allclose(shares(0.5), root / root.sum(), atol=0.02)


def test_classes_without_images_are_no_obstacle_to_class_aware_sampling():
    order = feeding.plan(np.array([0, 4, 4, 4]), epochs=2, batch_size=2, views=2, balance=1.0)
    assert set(order.index.ravel()) <= {0, 1, 2, 3}


# The views


def test_the_configuration_decides_the_table():
    fixed = feeding.make_table(30, Config(epochs=5, views=2, view_seed=3))
    np.testing.assert_array_equal(fixed, view_table(30, 2, 3))
    assert feeding.make_table(30, Config(epochs=5, views=None)) is None
    online = feeding.make_table(30, Config(epochs=5, views="online", view_seed=3))
    np.testing.assert_array_equal(online, view_table(30, 5, 3))


def test_with_a_view_for_every_epoch_no_image_is_shown_alike_twice():
    order = plan(views=4, epochs=4)
    for image in range(30):
        seen = order.view[order.index == image]
        assert len(set(seen)) == len(seen)


# The batches


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_batch_holds_the_images_of_its_row_in_their_views(strength):
    data, order, table = split(), plan(), view_table(30, 3)
    for step, (images, labels) in enumerate(feeding.batches(data, order, table, strength=strength).take(3)):
        index, view = order.index[step], order.view[step]
        expected = augment(data.images[index], table[view, index], strength)
        np.testing.assert_allclose(images, expected, atol=1e-2)
        np.testing.assert_array_equal(labels, data.labels[index])
        assert images.dtype == "float32" and images.shape == (7, 8, 8, 3)


def test_without_a_table_the_images_come_as_they_are():
    data, order = split(), plan(views=None)
    for step, (images, _) in enumerate(feeding.batches(data, order, None)):
        np.testing.assert_array_equal(images, data.images[order.index[step]])


def test_batches_can_begin_anywhere_and_are_the_same():
    data, order, table = split(), plan(), view_table(30, 3)
    whole = list(feeding.batches(data, order, table))
    later = list(feeding.batches(data, order, table, first_step=9))
    assert len(whole) == 16 and len(later) == 7
    for (images, labels), (images_again, labels_again) in zip(whole[9:], later, strict=True):
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)
    assert not list(feeding.batches(data, order, table, first_step=16))


def test_teacher_logits_come_with_the_image_and_view_that_they_belong_to():
    data, order = split(), plan()
    logits = np.random.default_rng(0).normal(size=(3, 30, 5)).astype(np.float16)
    for step, (_, y) in enumerate(feeding.batches(data, order, view_table(30, 3), teacher_logits=logits)):
        np.testing.assert_array_equal(
            y["teacher_logits"], logits[order.view[step], order.index[step]].astype(np.float32)
        )
        np.testing.assert_array_equal(y["label"], data.labels[order.index[step]])


@pytest.mark.parametrize("kind", ["labels", "teacher", "mixup", "no views"])
def test_arrays_and_tf_data_feed_the_same_batches(kind):
    data, order, table = split(), plan(views=None if kind == "no views" else 3), view_table(30, 3)
    logits = np.random.default_rng(0).normal(size=(3, 30, 5)).astype(np.float16) if kind == "teacher" else None
    table = None if kind == "no views" else table
    feed = feeding.Batches(data, order, table, 0.7, logits, 0.4 if kind == "mixup" else 0.0, 0, 3)
    assert len(feed) == 13
    for (images, y), (again, y_again) in zip(feed, feed.as_tf_data(), strict=True):
        np.testing.assert_allclose(images, again, atol=1e-2)
        keras.tree.map_structure(np.testing.assert_array_equal, y, y_again)


def test_validation_shows_every_image_once_in_order_to_the_last_incomplete_batch():
    data = split(30, 16)
    batches, y = feeding.in_order(data, batch_size=8)
    shown = list(batches.as_numpy_iterator())
    assert y is None
    assert [len(images) for images, _ in shown] == [8, 8, 8, 6]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in shown]), data.images)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in shown]), data.labels)


def test_the_end_of_an_epoch_does_not_wait_for_the_tuning_of_tf_data():
    data = split(30, 16)
    for feed in (feeding.batches(data, plan(), None), feeding.in_order(data, 8)[0]):
        assert feed.options().autotune.enabled is False


def test_a_mixture_is_made_of_two_images_of_the_batch_in_the_share_that_the_seed_gives():
    data, order, table = split(), plan(), view_table(30, 3)
    plain, mixed, again, other = (
        next(iter(feeding.batches(data, order, table, mixup=mixup, seed=seed)))
        for mixup, seed in [(0.0, 0), (0.4, 0), (0.4, 0), (0.4, 1)]
    )
    shares = np.random.default_rng([0, 3, 0]).beta(0.4, 0.4, 7).astype(np.float32).reshape(-1, 1, 1, 1)
    images = np.asarray(plain[0])
    np.testing.assert_allclose(mixed[0], shares * images + (1 - shares) * images[::-1], atol=1e-2)
    np.testing.assert_array_equal(mixed[0], again[0])
    assert mixed[1] == {} and not np.allclose(mixed[0], other[0])


def test_class_aware_sampling_of_equally_frequent_classes_shows_every_image_once():
    order = feeding.plan(np.arange(24) % 3, epochs=2, batch_size=8, views=2, balance=1.0)
    for epoch in order.index.reshape(2, 24):
        assert sorted(epoch) == list(range(24))


def test_class_aware_sampling_spreads_over_the_images_of_a_class():
    labels = np.repeat([0, 1], [90, 10])
    order = feeding.plan(labels, epochs=1, batch_size=100, views=2, balance=1.0)
    times = np.bincount(order.index.ravel(), minlength=100)
    assert set(times[90:]) == {5} and set(times[:90]) == {0, 1}


# Drawn signs among the training images


def german(count=43, size=16):
    data = small.split(count, size)
    data = dataclasses.replace(data, labels=np.arange(count, dtype=np.int32) % 43)
    return Dataset("photographs", CLASS_NAMES, size, data, data, data)


def test_drawn_signs_join_the_training_images_each_a_sign_of_its_own():
    dataset, config = german(), Config(epochs=1, drawn=86)
    one, same = feeding.training_split(dataset, config), feeding.training_split(dataset, config)
    assert len(one) == 43 + 86 and one.images.dtype == np.uint8 and one.labels.dtype == np.int32
    np.testing.assert_array_equal(one.images[:43], dataset.train.images)
    np.testing.assert_array_equal(one.images, same.images)
    assert np.bincount(one.labels[43:]).tolist() == [2] * 43
    assert len(set(one.groups[43:].tolist()) - set(dataset.train.groups.tolist())) == 86
    assert len(set(one.ids.tolist())) == len(one)
    assert len(feeding.training_split(dataset, dataclasses.replace(config, refit=True))) == 86 + 86
    assert feeding.training_split(dataset, Config(epochs=1)) is dataset.train


def test_a_class_that_is_missing_from_the_images_is_not_drawn():
    dataset = german()
    rest = np.flatnonzero(dataset.train.labels != 14)
    part = Split(*(getattr(dataset.train, name)[rest] for name in ("images", "labels", "groups", "ids")))
    found = feeding.training_split(dataclasses.replace(dataset, train=part), Config(epochs=1, drawn=84))
    assert 14 not in found.labels and np.bincount(found.labels[42:], minlength=43).max() == 2


def test_drawn_signs_are_refused_for_other_classes_and_enter_keys_where_they_are_used():
    with pytest.raises(
        ValueError, match="drawn signs fit data of the 43 German signs alone; patches has other classes"
    ):
        feeding.training_split(small.dataset_of(small.coloured_patches(20)), Config(epochs=1, drawn=5))
    with pytest.raises(ValueError, match="drawn must be a whole number"):
        Config(epochs=1, drawn=-1)
    assert "drawn" not in Config(epochs=1).facts() and Config(epochs=1, drawn=5).facts()["drawn"] == 5
    assert feeding.drawn_facts(Config(epochs=1)) == {} and len(feeding.drawn_facts(Config(epochs=1, drawn=5))) == 2
