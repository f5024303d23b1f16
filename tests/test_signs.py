import itertools
import subprocess
import sys

import numpy as np
import pytest

from kd_lib import signs


def grid(tracks, frames, labels=range(43)):
    """Labels, tracks and frames of every combination, flat."""
    axes = np.meshgrid(np.asarray(labels), np.asarray(tracks), np.asarray(frames), indexing="ij")
    return [axis.ravel() for axis in axes]


def on_grey(label, size=32):
    """The pictogram over mid grey, as floats."""
    face = signs.pictogram(label, size).astype(np.float32)
    alpha = face[..., 3:] / 255
    return face[..., :3] * alpha + 128 * (1 - alpha)


def test_there_are_43_different_names_in_the_order_of_the_benchmark():
    assert len(signs.CLASS_NAMES) == len(set(signs.CLASS_NAMES)) == 43
    expected = {0: "Speed limit 20", 13: "Yield", 14: "Stop", 25: "Road work", 38: "Keep right", 40: "Roundabout"}
    assert {label: signs.CLASS_NAMES[label] for label in expected} == expected
    assert signs.CLASS_NAMES[42] == "End of no overtaking for trucks"


@pytest.mark.parametrize("crop", [False, True])
def test_any_subset_in_any_order_gives_the_same_bytes(crop):
    labels, tracks, frames = grid([0, 7], [0, 13, 29])
    images = signs.render(labels, tracks, frames, crop=crop)
    assert images.shape == (258, 32, 32, 3) and images.dtype == np.uint8
    order = np.random.default_rng(3).permutation(len(labels))[:101]
    assert np.array_equal(signs.render(labels[order], tracks[order], frames[order], crop=crop), images[order])
    alone = [signs.render([labels[i]], [tracks[i]], [frames[i]], crop=crop)[0] for i in order[:20]]
    assert np.array_equal(alone, images[order[:20]])


def test_the_number_of_threads_does_not_change_a_byte(monkeypatch):
    labels, tracks, frames = grid([3], [5, 20])
    several = signs.render(labels, tracks, frames)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert np.array_equal(signs.render(labels, tracks, frames), several)


def test_a_new_process_draws_the_same_bytes():
    code = (
        "import sys, numpy; from kd_lib import signs;"
        "sys.stdout.buffer.write(signs.render([4, 40], [2, 3], [1, 29]).tobytes());"
        "assert 'tensorflow' not in sys.modules"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert fresh == signs.render([4, 40], [2, 3], [1, 29]).tobytes()


def test_another_seed_track_or_frame_is_another_image():
    images = [
        signs.render([5], [track], [frame], seed=seed)[0]
        for seed, track, frame in [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 10**6, 0)]
    ]
    for first, second in itertools.combinations(images, 2):
        assert (first != second).mean() > 0.3


@pytest.mark.parametrize("size", [8, 32, 48, 96])
def test_images_have_the_size_asked_for(size):
    images = signs.render([0, 14], [1, 1], [29, 29], image_size=size)
    assert images.shape == (2, size, size, 3)


def test_a_larger_image_shows_the_same_scene():
    labels, tracks, frames = grid([5], [20])
    small = signs.render(labels, tracks, frames, image_size=32).astype(np.float32)
    large = signs.render(labels, tracks, frames, image_size=64).astype(np.float32)
    shrunk = large.reshape(43, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 8


def test_no_images_give_an_empty_array():
    assert signs.render([], [], []).shape == (0, 32, 32, 3)


def test_every_pair_of_pictograms_differs_clearly_at_32_pixels():
    faces = np.stack([on_grey(label) for label in range(43)])
    for first, second in itertools.combinations(range(43), 2):
        difference = np.abs(faces[first] - faces[second]).max(-1)
        names = signs.CLASS_NAMES[first], signs.CLASS_NAMES[second]
        assert (difference > 60).sum() >= 12, names


def test_pictograms_have_flat_colours_inside_and_nothing_outside():
    for label in range(43):
        face = signs.pictogram(label)
        assert face.shape == (128, 128, 4) and face.dtype == np.uint8
        assert face[0, 0, 3] == 0 and face[64, 64, 3] == 255
        assert np.isin(face[..., 3], (0, 255)).mean() > 0.95
    red, blue, yellow = (
        signs.pictogram(label)[y, x, :3].astype(int) for label, y, x in [(17, 30, 64), (35, 64, 20), (12, 64, 64)]
    )
    assert red[0] > 2 * max(red[1:]) and blue[2] > 2 * max(blue[:2]) and min(yellow[:2]) > 2 * yellow[2]


def test_mirrored_classes_are_mirror_images():
    for label, other in signs.MIRROR_SWAP.items():
        assert signs.MIRROR_SWAP[other] == label
        assert np.abs(on_grey(label)[:, ::-1] - on_grey(other)).mean() < 1
    for label in signs.MIRROR_SAME:
        assert np.abs(on_grey(label)[:, ::-1] - on_grey(label)).mean() < 1
    one_sided = set(range(43)) - set(signs.MIRROR_SAME) - {5, 8, 0}
    for label in one_sided & {9, 14, 21, 24, 25, 32, 33, 36, 38, 40}:
        assert np.abs(on_grey(label)[:, ::-1] - on_grey(label)).mean() > 2


def test_frames_of_a_track_look_alike_more_than_other_tracks():
    labels, tracks, frames = grid(range(12), [12, 16, 20], [1, 13, 38])
    images = signs.render(labels, tracks, frames).astype(np.float32).reshape(3, 12, 3, -1)
    same = np.abs(images[:, :, 0] - images[:, :, 2]).mean()
    other = np.abs(images[:, :, 0] - np.roll(images, 1, axis=1)[:, :, 2]).mean()
    assert same < 0.5 * other


def test_a_track_comes_closer():
    """The first frames are captured at low resolution: enlarged, they hold less fine detail for their contrast."""
    labels, tracks, frames = grid(range(10), [0, 29])
    images = signs.render(labels, tracks, frames, crop=True).astype(np.float32).mean(-1).reshape(-1, 2, 32, 32)
    detail = np.abs(np.diff(images, n=2, axis=3)).mean((2, 3)) / images.std((2, 3))
    assert (detail[:, 1] > detail[:, 0]).mean() > 0.75


def test_crop_removes_the_margin():
    labels, tracks, frames = grid(range(40), [15], labels=[17])
    whole, cropped = (signs.render(labels, tracks, frames, crop=crop).astype(np.float32) for crop in (False, True))

    def redness(images):
        return (images[..., 0] - images[..., 1]).mean((1, 2)).mean()

    assert redness(cropped) > 1.2 * redness(whole)


def test_light_goes_from_night_to_glare():
    labels, tracks, frames = grid(range(20), [15])
    level = signs.render(labels, tracks, frames).mean((1, 2, 3))
    assert np.percentile(level, 3) < 25 and np.percentile(level, 97) > 170


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([43], [0], [0]), {}, "labels must be 0..42; found 43"),
        (([-1], [0], [0]), {}, "labels must be 0 or more; found -1"),
        (([0], [-2], [0]), {}, "tracks must be 0 or more; found -2"),
        (([0], [0], [-3]), {}, "frames must be 0 or more"),
        (([0, 1], [0], [0]), {}, "one length"),
        (([0.5], [0], [0]), {}, "labels must be a list of integers"),
        (([[0]], [0], [0]), {}, "labels must be a list of integers"),
        (([0], [0], [0]), {"image_size": 4}, "image_size must be 8..256 pixels; found 4"),
    ],
)
def test_bad_requests_say_what_is_wrong(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        signs.render(*arguments, **options)


@pytest.mark.parametrize(("label", "size"), [(43, 32), (-1, 32), (0, 4), (0, 5000)])
def test_pictogram_refuses_unknown_labels_and_sizes(label, size):
    with pytest.raises(ValueError, match="must be"):
        signs.pictogram(label, size)
