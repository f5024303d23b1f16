"""Tests of kd_lib.models: the sizes of the paper, images 0..255 in and logits out, and clear refusals."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from kd_lib import Distiller, artifacts, models
from kd_lib.evaluation import count_macs, count_params
from kd_lib.scale import Scale
from kd_lib.training import seeded

SMALL = {
    "student": lambda: models.student(5, image_size=8, width=1 / 16),
    "teacher": lambda: models.teacher(5, image_size=8, stream_width=2),
    "downsampling teacher": lambda: models.teacher(5, image_size=16, stream_width=2, downsample=True),
}


@functools.cache
def small(name):
    """One of the small models, built once: building takes most of these tests' time."""
    return SMALL[name]()


@pytest.fixture(scope="module")
def mobilenet():
    return models.mobilenet_v2(5, image_size=32, weights=None)


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def images(model, count=3, seed=0):
    size = model.input_shape[1] or 40
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("width", "parameters"), [(1.0, 732_779), (0.5, 228_171), (0.25, 79_547)])
def test_students_have_the_trainable_parameters_of_the_paper(width, parameters):
    assert trainable(models.student(43, width=width)) == parameters


def test_the_main_student_needs_seven_and_a_half_million_multiply_adds():
    assert count_macs(models.student(43, width=0.25)) == pytest.approx(7.5e6, rel=0.02)


def test_the_wide_teacher_has_the_size_of_the_paper():
    wide = models.teacher(43, stream_width=64)
    assert 7.3e6 < trainable(wide) < 7.6e6
    assert count_macs(wide) == pytest.approx(7.5e9, rel=0.05)


def test_downsampling_makes_the_narrow_teacher_light_enough_for_a_cpu():
    narrow = models.teacher(43, stream_width=12, downsample=True)
    assert count_macs(narrow) < 1e8
    assert count_params(narrow) * 2 < 4e6, "float16 weights of at most 4 MB"


def test_the_teacher_of_the_committed_run_is_small_enough_to_ship():
    full = Scale.named("full")
    teacher = models.teacher(43, stream_width=full.teacher_width, cells=full.teacher_cells, downsample=True)
    assert count_params(teacher) * 2 < 4e6, "float16 weights of at most 4 MB"
    assert count_macs(teacher) > 10 * count_macs(models.student(43, width=0.25))
    assert teacher.get_layer("stage4_pool").output.shape == (None, 4, 4, 2 * full.teacher_width)


def test_the_student_is_five_convolutions_each_with_bias_batchnorm_and_relu():
    model = models.student(43, width=0.25)
    kinds = (layers.Conv2D, layers.BatchNormalization, layers.ReLU)
    assert [type(layer) for layer in model.layers if isinstance(layer, kinds)] == list(kinds) * 5
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [16, 16, 32, 32, 64]
    assert all(layer.kernel_size == (3, 3) and layer.use_bias for layer in convolutions)
    assert model.get_layer("flatten").output.shape == (None, 4 * 4 * 64)


def test_a_cell_of_the_teacher_runs_both_streams_on_all_its_input_and_keeps_it():
    model = small("teacher")
    before, cell = model.get_layer("stage2_cell3"), model.get_layer("stage2_cell4")
    assert cell.output.shape[-1] == before.output.shape[-1] + 2 * 2
    for size in (1, 3):
        stream = model.get_layer(f"stage2_cell4_{size}x{size}_conv")
        assert stream.input is before.output and stream.kernel_size == (size, size)
    stage = model.get_layer("stage2")  # stages are densely connected too
    assert stage.output.shape[-1] == model.get_layer("stage1").output.shape[-1] + 2 * 2


@pytest.mark.parametrize("name", SMALL)
def test_batch_normalisation_forgets_its_start_within_a_short_run(name):
    norms = [layer for layer in small(name).layers if isinstance(layer, layers.BatchNormalization)]
    assert norms and all(norm.momentum == 0.9 for norm in norms)


@pytest.mark.parametrize("name", SMALL)
def test_uint8_images_go_in_and_logits_come_out(name):
    model = small(name)
    x = images(model)
    logits = model(x).numpy()
    assert logits.shape == (3, 5) and logits.dtype == np.float32
    np.testing.assert_allclose(logits, model(x.astype(np.float32)).numpy(), rtol=1e-5, atol=1e-5)
    assert not np.allclose(logits, model(x / np.float32(255)).numpy(), atol=1e-3), "scaling must lie inside the model"
    assert model.layers[-1].activation is keras.activations.linear
    assert np.abs(logits.sum(axis=1) - 1).min() > 1e-3, "these are probabilities"


def test_logits_stay_float32_under_mixed_precision():
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        for model in (models.student(5, 8, 1 / 16), models.teacher(5, 8, 2)):
            assert model.output.dtype == "float32"
            assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    finally:
        keras.mixed_precision.set_dtype_policy(before)


@pytest.mark.parametrize("name", SMALL)
def test_two_models_built_alike_are_found_to_be_alike(name):
    first, second = artifacts.describe_model(small(name)), artifacts.describe_model(SMALL[name]())
    assert first == second, "a layer without a name of its own would be numbered on"


def test_dropout_is_added_only_where_it_is_asked_for():
    kinds = [{type(layer) for layer in models.student(5, 8, 1 / 16, dropout=rate).layers} for rate in (0.0, 0.3)]
    assert [layers.Dropout in kind for kind in kinds] == [False, True]


@pytest.mark.parametrize(
    ("builder", "options", "least"),
    [
        (models.student, {}, 8),
        (models.teacher, {}, 8),
        (models.teacher, {"downsample": True}, 16),
        (models.mobilenet_v2, {}, 32),
    ],
)
def test_an_image_too_small_for_the_model_is_refused_with_the_least_size(builder, options, least):
    with pytest.raises(ValueError, match=f"image_size.*at least {least}.*{least - 1}"):
        builder(43, image_size=least - 1, **options)


@pytest.mark.parametrize("name", SMALL)
def test_the_least_image_size_works(name):
    assert small(name).input_shape[1] == (16 if "downsampling" in name else 8)
    assert np.isfinite(small(name)(images(small(name)))).all()


@pytest.mark.parametrize("builder", [models.student, models.teacher, models.mobilenet_v2])
@pytest.mark.parametrize("classes", [1, 0, 43.0, True])
def test_a_number_of_classes_that_is_none_is_refused(builder, classes):
    with pytest.raises(ValueError, match=f"num_classes.*at least 2.*{classes}"):
        builder(classes)


def test_widths_that_leave_no_channel_are_refused():
    for width in (0, -1, 0.005):
        with pytest.raises(ValueError, match=f"width.*{width}"):
            models.student(43, width=width)
    for width in (0, 2.5):
        with pytest.raises(ValueError, match=f"stream_width.*{width}"):
            models.teacher(43, stream_width=width)
        with pytest.raises(ValueError, match=f"cells.*{width}"):
            models.teacher(43, stream_width=2, cells=width)


def test_a_cell_is_two_convolutions_in_each_of_four_stages():
    sizes = [models.teacher(5, 8, 2, cells=cells) for cells in (1, 3, 6)]
    counts = [sum(isinstance(layer, layers.Conv2D) for layer in model.layers) for model in sizes]
    assert counts == [4 * (2 + 2 * cells) for cells in (1, 3, 6)]
    assert models.teacher(5, 8, 2).count_params() == sizes[-1].count_params()


def test_mobilenet_takes_images_of_any_size_and_answers_logits(mobilenet):
    for size in (20, 32, 57):
        x = np.random.default_rng(size).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        assert mobilenet(x).shape == (2, 5)
    assert mobilenet.layers[-1].activation is keras.activations.linear


def test_mobilenets_backbone_sees_images_between_minus_one_and_one(mobilenet):
    normalize = keras.Model(mobilenet.input, mobilenet.get_layer("normalize").output)
    x = np.stack([np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)])
    seen = normalize(x).numpy()
    assert seen.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(seen[0], -1, atol=1e-6)
    np.testing.assert_allclose(seen[1], 1, atol=1e-6)


def test_mobilenets_backbone_is_read_from_a_file(mobilenet, tmp_path):
    path = tmp_path / "backbone.weights.h5"
    mobilenet.get_layer("backbone").save_weights(path)
    again = models.mobilenet_v2(3, image_size=32, weights=path)
    for one, other in zip(mobilenet.get_layer("backbone").weights, again.get_layer("backbone").weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_backbone_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.weights.h5.*KD_MOBILENET"):
        models.mobilenet_v2(5, image_size=32, weights=tmp_path / "nowhere.weights.h5")
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(b"not a weights file")
    with pytest.raises(ValueError, match="broken.weights.h5.*KD_MOBILENET"):
        models.mobilenet_v2(5, image_size=32, weights=broken)


def test_imagenet_weights_that_cannot_be_downloaded_name_the_two_other_choices(monkeypatch):
    def unreachable(*args, **kwargs):
        raise Exception("URL fetch failure on https://storage.googleapis.com: no route")

    monkeypatch.setattr(keras.applications, "MobileNetV2", unreachable)
    with pytest.raises(ConnectionError, match="no route.*KD_MOBILENET=signs.*KD_MOBILENET=/path"):
        models.mobilenet_v2(43)


def test_contrast_normalization_makes_night_look_like_day_and_keeps_hues():
    layer = models.ContrastNormalization()
    day = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype("float32")
    seen, night = np.asarray(layer(day)), np.asarray(layer(10 + 0.3 * day))
    np.testing.assert_allclose(seen.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    expected = day - day.mean(axis=(1, 2, 3), keepdims=True)
    expected /= np.abs(expected).mean(axis=(1, 2, 3), keepdims=True) + 4
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    assert 0.8 < np.abs(night).mean() / np.abs(seen).mean() <= 1
    largest = [np.abs(part).max(axis=(1, 2, 3), keepdims=True) for part in (night, seen)]
    np.testing.assert_allclose(night / largest[0], seen / largest[1], atol=1e-4)


def test_contrast_normalization_leaves_an_empty_image_empty_and_survives_saving(tmp_path):
    assert not np.asarray(models.ContrastNormalization()(np.full((1, 8, 8, 3), 200, "uint8"))).any()
    network = models.student(43, width=0.125)
    network.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    assert again.get_layer("normalize").floor == network.get_layer("normalize").floor


def test_a_committee_answers_the_mean_probability_of_its_members():
    members = [seeded(seed, models.student, 5, 16, width=1 / 16) for seed in range(3)]
    pictures = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype("uint8")
    together = models.committee(members)
    mean = np.mean([keras.ops.softmax(member(pictures)) for member in members], axis=0)
    np.testing.assert_allclose(keras.ops.softmax(together(pictures)), mean, atol=1e-6)
    assert together.output_shape == (None, 5) and together.layers[-1].compute_dtype == "float32"
    for count in (count_params, count_macs):
        assert count(together) == sum(count(member) for member in members)
    members[0].layers[-1].bias.assign_add([9, 0, 0, 0, 0])
    assert (np.argmax(together(pictures), axis=1) == 0).all(), "its members are not copied"


def test_a_committee_is_a_teacher_that_can_be_saved(tmp_path):
    members = [seeded(seed, models.student, 5, 16, width=1 / 16) for seed in range(2)]
    together, pictures = models.committee(members), np.full((1, 16, 16, 3), 90, "uint8")
    together.save(tmp_path / "committee.keras")
    again = keras.models.load_model(tmp_path / "committee.keras")
    np.testing.assert_allclose(again(pictures), together(pictures), atol=1e-6)
    assert (
        artifacts.fingerprint(again)
        == artifacts.fingerprint(together)
        != artifacts.fingerprint(models.committee(members[::-1]))
    )
    Distiller(models.student(5, 16, width=1 / 16), together)  # logits, not probabilities


def test_a_committee_of_none_or_of_unequal_networks_is_refused():
    one, other = (models.student(classes, 16, width=1 / 16) for classes in (5, 6))
    for members in ([], [one, other]):
        with pytest.raises(ValueError, match="networks of the same input and classes"):
            models.committee(members)
