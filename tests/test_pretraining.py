"""Where MobileNetV2's weights come from, and that fine-tuning moves what it should and nothing else.

What trains here trains a stand-in of five small layers that are named as MobileNetV2's are; the real network is built
where its layers matter, and notebook 05 trains it.
"""

import dataclasses
import socket

import keras
import numpy as np
import pytest
from keras import layers

from kd_lib import artifacts, datasets, feeding, models, pretraining
from kd_lib.scale import Scale, home

SCALE = dataclasses.replace(Scale.named("smoke"), batch_size=11, mobilenet_limit=43, mobilenet_epochs=(1, 1, 1))


def stand_in(shape, input_tensor, include_top, weights, name):
    """A few layers in the place of MobileNetV2's 154: they train in a second."""
    x = layers.Conv2D(4, 3, strides=8, name="Conv1")(input_tensor)
    x = layers.BatchNormalization(name="bn_Conv1")(x)
    for block in (12, 13):
        x = layers.Conv2D(4, 1, name=f"block_{block}_expand")(x)
        x = layers.BatchNormalization(name=f"block_{block}_expand_BN")(x)
    return keras.Model(input_tensor, x, name=name)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(keras.applications, "MobileNetV2", stand_in)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return models.mobilenet_v2(43, 32, weights=None)


def backbone_values(model):
    return model.get_layer("backbone").get_weights()


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def owners(variables):
    """Names of the layers that hold these variables."""
    return {variable.path.split("/")[-2] for variable in variables}


def test_pretraining_makes_a_weights_file_once_and_mends_it_if_it_is_damaged(small, monkeypatch):
    path = pretraining.backbone_weights("signs", scale=SCALE)
    assert path.startswith(str(home())) and path.endswith(".weights.h5")
    pretrained = backbone_values(models.mobilenet_v2(43, 32, weights=path))
    assert not same(pretrained, backbone_values(models.mobilenet_v2(43, 32, weights=None)))

    with open(path, "wb") as file:
        file.write(b"damaged")
    monkeypatch.setattr(feeding, "plan", None)  # whoever trains calls it
    assert pretraining.backbone_weights("signs", scale=SCALE) == path
    assert same(pretrained, backbone_values(models.mobilenet_v2(43, 32, weights=path)))


def test_a_backbone_file_loads_at_another_image_size_and_class_count(network, tmp_path):
    path = tmp_path / "backbone.weights.h5"
    network.get_layer("backbone").save_weights(path)
    large = models.mobilenet_v2(10, 96, weights=str(path))
    assert same(backbone_values(network), backbone_values(large))
    assert large(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 10)


def test_other_choices_are_passed_on_or_refused_with_the_valid_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "pretrain", None)
    assert pretraining.backbone_weights("imagenet", scale=SCALE) == "imagenet"
    file = tmp_path / "mine.weights.h5"
    file.touch()
    assert pretraining.backbone_weights(file, scale=SCALE) == str(file)
    for wrong in ("imagenett", tmp_path, tmp_path / "absent.weights.h5"):
        with pytest.raises(FileNotFoundError, match=r"'imagenet', 'signs' or an existing .*Received: '.+'"):
            pretraining.backbone_weights(wrong, scale=SCALE)


def test_result_rows_name_a_weights_file_without_its_folders(tmp_path):
    names = [pretraining.weights_name(choice) for choice in ("imagenet", "signs", str(tmp_path / "mine.weights.h5"))]
    assert names == ["imagenet", "signs", "mine.weights.h5"]


def test_a_download_without_an_answer_is_given_up_soon(monkeypatch):
    waits = []

    def unreachable(*args, **kwargs):
        waits.append(socket.getdefaulttimeout())
        raise Exception("URL fetch failure\nand more lines")

    monkeypatch.setattr(keras.applications, "MobileNetV2", unreachable)
    before = socket.getdefaulttimeout()
    with pytest.raises(ConnectionError, match=r"\(URL fetch failure\)"):
        models.mobilenet_v2(43, 32, weights="imagenet")
    assert 0 < waits[0] <= 30
    assert socket.getdefaulttimeout() == before


def test_two_builds_are_described_alike_so_that_artifacts_are_found(network):
    again = models.mobilenet_v2(43, 32, weights=None)
    assert artifacts.describe_model(again) == artifacts.describe_model(network)


def test_short_trainings_get_a_batchnorm_that_follows_them(network):
    norms = [x for x in network.get_layer("backbone").layers if isinstance(x, layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {models.BATCH_NORM_MOMENTUM}


def test_a_frozen_backbone_learns_nothing_and_its_batchnorm_stays_in_inference_mode(network):
    pretraining.freeze_backbone(network)
    assert {variable.path.split("/")[0] for variable in network.trainable_variables} == {"logits"}
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
    before = backbone_values(network)
    network(images, training=True)
    assert same(before, backbone_values(network))
    network.get_layer("backbone").trainable = True
    network(images, training=True)
    assert not same(before, backbone_values(network)), "this test could not have failed"


def test_unfreezing_the_top_frees_its_convolutions_and_no_batchnorm(network):
    pretraining.freeze_backbone(network)
    pretraining.unfreeze_top(network, first_block=15)
    blocks = {f"block_{block}_{part}" for block in (15, 16) for part in ("expand", "depthwise", "project")}
    assert owners(network.trainable_variables) == blocks | {"Conv_1", "logits"}


def test_unfreezing_an_unknown_block_is_refused(network):
    for wrong in (0, 17, "top"):
        with pytest.raises(ValueError, match=f"1 to 16. Received: {wrong!r}"):
            pretraining.unfreeze_top(network, first_block=wrong)


def test_fine_tuning_starts_from_the_weights_moves_only_the_top_and_is_done_once(small, tmp_path, monkeypatch):
    source = models.mobilenet_v2(43, 32, weights=None).get_layer("backbone")
    path = tmp_path / "mine.weights.h5"
    source.save_weights(path)
    dataset = datasets.load_dataset("signs", limit=43)
    scale = dataclasses.replace(SCALE, mobilenet=str(path))
    head, top = pretraining.fine_tune(dataset, scale)
    tuned = top.model.get_layer("backbone")
    kept = [value.astype(np.float16) for value in source.get_weights()]  # as artifacts keep weights
    pairs = zip(kept, tuned.weights, strict=True)
    moved = [variable for value, variable in pairs if not np.array_equal(value, variable)]
    assert owners(moved) == {"block_13_expand"}
    assert top.config.learning_rate == head.config.learning_rate / 10
    assert "mine.weights.h5" in head.config.start and head.key in top.config.start
    assert str(tmp_path) not in top.config.start

    monkeypatch.setattr(feeding, "plan", None)  # whoever trains calls it
    again = pretraining.fine_tune(dataset, scale)[1]
    assert again.loaded and same(top.model.get_weights(), again.model.get_weights())
