"""Tests of kd_lib.views: a view is a row of numbers, and the same numbers give the same pixels everywhere."""

import numpy as np
import pytest
import tensorflow as tf

from kd_lib import views
from kd_lib.views import NUMBERS, augment, view_table

NEUTRAL = np.full((1, len(NUMBERS)), 0.5, np.float32)  # the middle of every range: no turn, no shift, no square


def pictures(count=6, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def smooth_pictures(count=4, size=32, seed=0):
    """Pictures without fine detail: what a small change of geometry does to them is small."""
    coarse = tf.constant(np.random.default_rng(seed).uniform(30, 220, (count, 4, 4, 3)), tf.float32)
    return tf.image.resize(coarse, (size, size), "bicubic").numpy().clip(0, 255)


def with_number(name, value):
    numbers = NEUTRAL.copy()
    numbers[:, NUMBERS.index(name)] = value
    return numbers


def test_a_table_is_float32_of_views_images_and_numbers_between_0_and_1():
    table = view_table(50, 4, seed=1)
    assert table.shape == (4, 50, len(NUMBERS)) and table.dtype == np.float32
    assert table.min() >= 0 and table.max() < 1
    np.testing.assert_allclose(view_table(5000, 2).mean(axis=1), 0.5, atol=0.03)


def test_a_table_is_the_same_for_the_same_seed_and_another_for_another():
    np.testing.assert_array_equal(view_table(20, 3, seed=5), view_table(20, 3, seed=5))
    assert not np.isclose(view_table(20, 3, seed=5), view_table(20, 3, seed=6)).any(axis=(1, 2)).all()


def test_view_k_does_not_depend_on_how_many_views_there_are():
    np.testing.assert_array_equal(view_table(20, 2, seed=3), view_table(20, 5, seed=3)[:2])


def test_no_two_views_of_a_table_are_alike():
    rows = view_table(40, 5).reshape(-1, len(NUMBERS))
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.parametrize(("images", "count"), [(0, 1), (1, 0), (5, -1)])
def test_a_table_of_nothing_is_refused(images, count):
    with pytest.raises(ValueError, match=f"images={images}, views={count}"):
        view_table(images, count)


def test_the_same_numbers_give_the_same_pixels_whatever_else_is_in_the_batch():
    images, numbers = pictures(), view_table(6, 1)[0]
    together = augment(images, numbers).numpy()
    np.testing.assert_array_equal(together, augment(images, numbers).numpy())
    for index in (0, 3):
        alone = augment(images[index : index + 1], numbers[index : index + 1]).numpy()[0]
        np.testing.assert_allclose(alone, together[index], atol=1e-3)


def test_in_the_graph_a_view_looks_as_it_does_outside():
    images, numbers = pictures(), view_table(6, 1)[0]
    graph = tf.function(augment)
    np.testing.assert_allclose(graph(images, numbers), augment(images, numbers), atol=1e-2)
    fed = tf.data.Dataset.from_tensors((images, numbers)).map(augment).get_single_element()
    np.testing.assert_allclose(fed, augment(images, numbers), atol=1e-2)


def test_whole_and_broken_numbers_give_the_same_view():
    images, numbers = pictures(), view_table(6, 1)[0]
    np.testing.assert_array_equal(
        augment(images, numbers), augment(images.astype(np.float32), numbers.astype(np.float64))
    )


def test_strength_0_returns_the_images():
    images = pictures()
    out = augment(images, view_table(6, 1)[0], strength=0)
    assert out.dtype == tf.float32
    np.testing.assert_array_equal(out, images)


def test_more_strength_changes_more():
    images, numbers = smooth_pictures(16), view_table(16, 1)[0]
    changes = [np.abs(augment(images, numbers, strength).numpy() - images).mean() for strength in (0.25, 0.5, 1.0)]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_pixels_stay_between_0_and_255_and_keep_shape(strength):
    extremes = np.stack([np.zeros((16, 20, 3)), np.full((16, 20, 3), 255.0), pictures(size=20)[0, :16]])
    for numbers in (np.zeros((3, len(NUMBERS))), np.full((3, len(NUMBERS)), 0.999), view_table(3, 1)[0]):
        out = augment(extremes.astype(np.uint8), numbers.astype(np.float32), strength).numpy()
        assert out.shape == (3, 16, 20, 3) and out.dtype == np.float32
        assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 255


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_an_effect(name):
    image = pictures(1, size=32)
    low, high = with_number(name, 0.05), with_number(name, 0.95)
    # The place of a square, and place and angle of a shadow, are seen where there is one.
    for needed in {"cutout_place": ["cutout_size"]}.get(name, ["shadow_depth"] * name.startswith("shadow_")):
        if needed != name:
            low[:, NUMBERS.index(needed)] = high[:, NUMBERS.index(needed)] = 0.95
    if name == "shadow_angle":
        high[:, NUMBERS.index(name)] = 0.55  # half a turn further; 0.95 would be nearly a whole one
    assert np.abs(augment(image, low).numpy() - augment(image, high).numpy()).max() > 10


def test_the_middle_of_every_range_moves_nothing():
    image = smooth_pictures(1)
    np.testing.assert_allclose(augment(image, NEUTRAL), image, atol=12)  # it is slightly softened


def test_nothing_is_ever_mirrored():
    # Bright left, dark right: after a mirror it would be the other way round. The same upside down.
    ramp = np.broadcast_to(np.linspace(230, 20, 32)[None, :, None], (32, 32, 3))
    numbers = np.concatenate([view_table(300, 1)[0], np.round(view_table(50, 1, seed=1)[0]) * 0.999]).astype(np.float32)
    for name, value in {"cutout_size": 0, "shadow_depth": 0, "exposure": 0.5}.items():  # they hide left and right
        numbers[:, NUMBERS.index(name)] = value
    for picture, axis in ((ramp, 1), (ramp.transpose(1, 0, 2), 0)):
        out = augment(np.broadcast_to(picture, (len(numbers), 32, 32, 3)), numbers, 1.0).numpy().mean(axis=3)
        first, second = np.split(out, 2, axis=axis + 1)
        assert (first.mean(axis=(1, 2)) > second.mean(axis=(1, 2)) + 20).all()


def test_a_shift_moves_by_at_most_a_tenth_of_the_side():
    image = np.zeros((1, 41, 41, 3), np.float32)
    image[:, 15:26, 15:26] = 200
    for name, axis in (("shift_x", 1), ("shift_y", 0)):
        for value, expected in ((0.0, 4.1), (0.5, 0.0), (1.0, -4.1)):
            out = augment(image, with_number(name, value)).numpy()[0].mean(axis=2)
            position = np.arange(41) @ out.sum(axis=1 - axis) / out.sum()
            assert position - 20 == pytest.approx(expected, abs=0.3)


def test_the_edge_is_repeated_where_the_view_looks_outside():
    white = np.full((1, 16, 16, 3), 200, np.uint8)
    for name in ("rotation", "shift_x", "scale"):
        out = augment(white, with_number(name, 0.999)).numpy()
        np.testing.assert_allclose(out, 200, atol=1)


def test_a_third_of_the_views_has_a_grey_square_of_at_most_two_fifths_of_the_side():
    numbers = np.repeat(NEUTRAL, 3000, axis=0)
    numbers[:, 10:12] = view_table(3000, 1)[0, :, 10:12]
    dark = np.zeros((3000, 16, 16, 3), np.float32)
    covered = (augment(dark, numbers).numpy() > 50).any(axis=3)
    share = covered.any(axis=(1, 2)).mean()
    assert 0.2 < share <= 0.36, "views with a square; the smallest squares cover no pixel's centre"
    assert covered.any(axis=1).sum(axis=1).max() <= np.ceil(0.4 * 16) and covered.any(axis=2).sum(axis=1).max() <= 7


def test_half_of_the_views_have_a_shadow_with_a_lit_and_a_dark_side():
    numbers = np.repeat(NEUTRAL, 400, axis=0)
    numbers[:, 14:] = view_table(400, 1)[0, :, 14:]
    light = augment(np.full((400, 16, 16, 3), 200.0), numbers).numpy().mean(axis=3) / 200
    shaded = light.min(axis=(1, 2)) < 0.97
    assert 0.4 < shaded.mean() < 0.55 and light.min() < 0.35 and light.max() <= 1.001
    deep = light[light.min(axis=(1, 2)) < 0.5]
    assert np.median(deep.max(axis=(1, 2))) > 0.95


def test_what_is_overexposed_is_lost():
    image = np.linspace(0, 255, 32)[None, :, None, None] * np.ones((1, 1, 32, 3))
    bright = augment(image, with_number("exposure", 0.999)).numpy()
    assert (bright > 254).mean() > 0.5 > (augment(image, NEUTRAL).numpy() > 254).mean()


def test_saturation_moves_colours_to_and_from_grey_and_leaves_grey_alone():
    image = np.full((1, 8, 8, 3), [200.0, 60.0, 100.0])
    pale, full = (augment(image, with_number("saturation", value)).numpy()[0, 4, 4] for value in (0.001, 0.999))
    assert np.ptp(pale) < 0.5 * 140 < 1.4 * 140 < np.ptp(full) + 10
    grey = np.full((1, 8, 8, 3), 90.0)
    np.testing.assert_allclose(augment(grey, with_number("saturation", 0.999)), grey, atol=0.1)


def test_kinds_of_change_are_listed_in_the_order_of_the_table():
    assert len(NUMBERS) == len(set(NUMBERS)) == view_table(1, 1).shape[-1] == 17
    asked = {
        "rotation",
        "shear",
        "scale",
        "shift_x",
        "shift_y",
        "brightness",
        "contrast",
        "gamma",
        "blur",
        "cutout_size",
    }
    assert asked <= set(views.NUMBERS) and not [name for name in NUMBERS if "mirror" in name or "flip" in name]
