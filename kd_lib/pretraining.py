"""Where MobileNetV2 starts from, and how a network that starts from elsewhere is fine-tuned.

`backbone_weights` turns a choice (KD_MOBILENET) into what `models.mobilenet_v2(weights=...)` takes: Keras' own ImageNet
download, a backbone that `pretrain` trains on drawn signs and keeps, or a file of yours. `fine_tune` trains the new
head with the backbone frozen, then the top of the network at a tenth of the rate. Left out: other data to pretrain on.
"""

from pathlib import Path

import keras

from kd_lib import artifacts, datasets, models
from kd_lib.files import writing
from kd_lib.scale import home
from kd_lib.training import Config, fit_or_load, seeded

FIRST_BLOCK = (
    13  # of 16. From here on maps are small and features are about whole objects; a training step costs little.
)
HEAD_RATE = 3e-3  # peak learning rate of the head alone; the top of the network gets a tenth of it


def backbone_weights(choice, *, scale):
    """Return what `models.mobilenet_v2(weights=...)` takes for a choice of weights.

    Args:
        choice: "imagenet" (Keras downloads it when the model is built), "signs" (see `pretrain`: made if absent), or
            the path of a weights file of the backbone.
        scale: Scale; its amounts for MobileNetV2 are those of "signs".

    Returns:
        str: "imagenet", or the path of an existing file.

    Raises:
        FileNotFoundError: the choice is neither a name nor an existing file.
    """
    if choice == "imagenet":
        return choice
    if choice == "signs":
        size, limit, epochs = scale.mobilenet_size, scale.mobilenet_limit, scale.mobilenet_epochs[0]
        return str(pretrain(image_size=size, limit=limit, epochs=epochs, batch_size=scale.batch_size))
    path = Path(choice).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            "KD_MOBILENET must be 'imagenet', 'signs' or an existing weights file of MobileNetV2's backbone. "
            f"Received: {str(choice)!r}"
        )
    return str(path)


def weights_name(choice):
    """Return a choice of weights as result rows name it: without the folders of one machine."""
    return Path(choice).name


def pretrain(*, image_size=96, limit=None, epochs=4, batch_size=64, progress=True):
    """Train MobileNetV2 from random weights on drawn signs, or load it, and keep its backbone as a weights file.

    Signs that `load_dataset` holds out for validation or test are held out here too, so that a network which starts
    from these weights may be judged on drawn signs. A training that was killed goes on after its last finished epoch.

    Args:
        image_size: side in pixels that the network works at, at least 32. Signs are drawn at 32 pixels, as coarse as
            the course's photographs, and enlarged inside the network.
        limit: images to train on at most; None for all, about 43,900.
        epochs: passes over them.
        batch_size: images a step.
        progress: print a line that counts epochs.

    Returns:
        Path of the .weights.h5 file under KD_HOME. Its weights are rounded to float16, as artifacts are, and fit a
        backbone of any image size.

    Raises:
        ValueError: image_size below 32, or an amount that is not a whole number of at least 1.
        OSError: a file could not be written; what was finished is kept.
    """
    dataset = datasets.load_dataset("signs", limit=limit)
    model = seeded(0, models.mobilenet_v2, dataset.num_classes, image_size, weights=None)
    config = Config(epochs=epochs, batch_size=batch_size, learning_rate=3e-3, views="online")
    run = fit_or_load("mobilenet_v2-pretrained-on-signs", model, dataset, config, progress=progress)
    # Written each time, in a second: a damaged or missing file does not outlive a run.
    path = home() / "artifacts" / f"{run.name}-{run.key}" / "backbone.weights.h5"
    with writing(path) as temporary:
        run.model.get_layer("backbone").save_weights(temporary)
    return path


def freeze_backbone(model):
    """Let only the head of a `models.mobilenet_v2` learn; frozen BatchNorm stays in inference mode, also in fit."""
    model.get_layer("backbone").trainable = False


def unfreeze_top(model, first_block=FIRST_BLOCK):
    """Let the backbone learn from block `first_block` on, its BatchNorm layers excepted; earlier blocks stay frozen.

    Args:
        model: keras.Model from `models.mobilenet_v2`.
        first_block: 1 to 16.

    Raises:
        ValueError: no such block.
    """
    backbone = model.get_layer("backbone")
    names = [layer.name for layer in backbone.layers]
    if f"block_{first_block}_expand" not in names:
        raise ValueError(f"first_block must be a whole number from 1 to 16. Received: {first_block!r}")
    backbone.trainable = True  # sets the flags of all that it holds, so it comes first
    first = names.index(f"block_{first_block}_expand")
    for place, layer in enumerate(backbone.layers):
        layer.trainable = place >= first and not isinstance(layer, keras.layers.BatchNormalization)


def fine_tune(dataset, scale):
    """Fit MobileNetV2 to a data set in two stages: the head alone, then head and top at a tenth of the rate.

    Args:
        dataset: from `kd_lib.load_dataset`.
        scale: Scale; says from which weights, at which size and for how long.

    Returns:
        (Run, Run) of the two stages. Both hold the same model, which has been through both.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: the weights of `scale.mobilenet` cannot be had.
    """
    weights = backbone_weights(scale.mobilenet, scale=scale)
    model = seeded(0, models.mobilenet_v2, dataset.num_classes, scale.mobilenet_size, weights=weights)
    start = f"{weights_name(scale.mobilenet)} {artifacts.fingerprint(model.get_layer('backbone'))}"
    _, head_epochs, top_epochs = scale.mobilenet_epochs
    common = {"batch_size": scale.batch_size, "views": "online", "warmup_epochs": 0.2}
    freeze_backbone(model)
    config = Config(epochs=head_epochs, learning_rate=HEAD_RATE, start=start, **common)
    head = fit_or_load("mobilenet_v2-head", model, dataset, config)
    unfreeze_top(model)
    config = Config(epochs=top_epochs, learning_rate=HEAD_RATE / 10, start=f"{start}, head {head.key}", **common)
    return head, fit_or_load("mobilenet_v2", model, dataset, config)
