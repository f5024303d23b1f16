"""Where MobileNetV2's weights come from, and that fine-tuning moves what it should and nothing else."""

import socket

import keras
import numpy as np
import pytest

from kd_lib import datasets, feeding, models, pretraining

TINY = {"image_size": 32, "limit": 43, "epochs": 1, "batch_size": 43}  # one step


def backbone_values(model):
    return model.get_layer("backbone").get_weights()


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def pretrained(home):
    """The path of a backbone that was trained on drawn signs for one step."""
    return pretraining.pretrain(**TINY, progress=False)


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return models.mobilenet_v2(43, 32, weights=None)


def test_pretraining_keeps_a_weights_file_under_the_home_folder(home, pretrained):
    assert pretrained.is_file() and pretrained.name.endswith(".weights.h5") and home in pretrained.parents


def test_a_pretrained_backbone_loads_at_another_image_size(pretrained):
    small = models.mobilenet_v2(43, 32, weights=str(pretrained))
    large = models.mobilenet_v2(10, 96, weights=str(pretrained))
    random = models.mobilenet_v2(43, 32, weights=None)
    assert same(backbone_values(small), backbone_values(large))
    assert not same(backbone_values(small), backbone_values(random))
    assert large(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 10)


def test_pretraining_is_done_once_and_a_damaged_weights_file_is_mended(pretrained, monkeypatch):
    values = backbone_values(models.mobilenet_v2(43, 32, weights=str(pretrained)))
    pretrained.write_bytes(b"damaged")
    monkeypatch.setattr(feeding, "plan", None)  # whoever trains calls it
    path = pretraining.backbone_weights("signs", **TINY)
    assert path == str(pretrained)
    assert same(values, backbone_values(models.mobilenet_v2(43, 32, weights=path)))


def test_other_choices_are_passed_on_or_refused_with_the_valid_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "pretrain", None)
    assert pretraining.backbone_weights("imagenet", image_size=32) == "imagenet"
    file = tmp_path / "mine.weights.h5"
    file.touch()
    assert pretraining.backbone_weights(file, image_size=32) == str(file)
    for wrong in ("imagenett", tmp_path, tmp_path / "absent.weights.h5"):
        with pytest.raises(FileNotFoundError, match=r"'imagenet', 'signs' or an existing .*Received: '.+'"):
            pretraining.backbone_weights(wrong, image_size=32)


def test_result_rows_name_a_weights_file_without_its_folders(tmp_path):
    names = [pretraining.weights_name(choice) for choice in ("imagenet", "signs", str(tmp_path / "mine.weights.h5"))]
    assert names == ["imagenet", "signs", "mine.weights.h5"]


def test_an_unreachable_download_fails_soon_and_names_the_other_choices(monkeypatch):
    seen = []

    def unreachable(*args, **kwargs):
        seen.append(socket.getdefaulttimeout())
        raise Exception("URL fetch failure\nand more lines")  # what Keras raises

    monkeypatch.setattr(keras.applications, "MobileNetV2", unreachable)
    before = socket.getdefaulttimeout()
    with pytest.raises(ConnectionError, match=r"\(URL fetch failure\).*KD_MOBILENET=signs.*KD_MOBILENET=/path"):
        models.mobilenet_v2(43, 32, weights="imagenet")
    assert 0 < seen[0] <= 30
    assert socket.getdefaulttimeout() == before


def test_a_file_that_holds_no_backbone_is_refused_in_a_short_message(tmp_path):
    file = tmp_path / "student.weights.h5"
    models.student(43, width=0.05).save_weights(file)
    with pytest.raises(ValueError, match="imagenet or signs") as caught:
        models.mobilenet_v2(43, 32, weights=str(file))
    assert len(str(caught.value)) < 500 and str(file) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="absent"):
        models.mobilenet_v2(43, 32, weights=str(tmp_path / "absent.weights.h5"))


def test_short_trainings_get_a_batchnorm_that_follows_them(network):
    norms = [x for x in network.get_layer("backbone").layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {models.BATCH_NORM_MOMENTUM}


def test_a_frozen_backbone_learns_nothing_and_its_batchnorm_stays_in_inference_mode(network):
    pretraining.freeze_backbone(network)
    assert {variable.path.split("/")[0] for variable in network.trainable_variables} == {"logits"}
    before = backbone_values(network)
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
    network(images, training=True)
    assert same(before, backbone_values(network))
    backbone = network.get_layer("backbone")
    assert np.allclose(backbone(images / 255, training=True), backbone(images / 255, training=False))
    backbone.trainable = True
    network(images, training=True)
    assert not same(before, backbone_values(network)), "this test could not have failed"


def test_unfreezing_the_top_frees_its_convolutions_and_no_batchnorm(network):
    pretraining.freeze_backbone(network)
    pretraining.unfreeze_top(network, first_block=15)
    free = {variable.path.split("/")[-2] for variable in network.trainable_variables}
    blocks = [f"block_{block}_{part}" for block in (15, 16) for part in ("expand", "depthwise", "project")]
    assert free == {*blocks, "Conv_1", "logits"}


def test_unfreezing_an_unknown_block_is_refused(network):
    for wrong in (0, 17, "top"):
        with pytest.raises(ValueError, match=f"1 to 16. Received: {wrong!r}"):
            pretraining.unfreeze_top(network, first_block=wrong)


def test_fine_tuning_starts_from_the_weights_and_moves_the_head_then_the_top(pretrained):
    dataset = datasets.load_dataset("signs", limit=43)
    start = backbone_values(models.mobilenet_v2(43, 32, weights=str(pretrained)))
    arguments = {"weights": str(pretrained), "start": "signs", "image_size": 32, "epochs": (1, 1), "batch_size": 43}
    head, top = pretraining.fine_tune(dataset, **arguments)
    names = [variable.path.split("/")[-2] for variable in top.model.get_layer("backbone").weights]
    moved = {
        name for name, a, b in zip(names, start, backbone_values(top.model), strict=True) if not np.array_equal(a, b)
    }
    assert moved and moved <= {
        f"block_{b}_{part}" for b in range(13, 17) for part in ("expand", "depthwise", "project")
    } | {"Conv_1"}
    again = pretraining.fine_tune(dataset, **arguments)
    assert [run.loaded for run in again] == [True, True]
    assert same(top.model.get_weights(), again[1].model.get_weights())
    assert head.key != top.key and "signs" in top.config.start and head.key in top.config.start
