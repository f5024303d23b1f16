"""The course's networks, as Keras Functional models: images 0..255 in, logits out.

Scaling lives inside each model, and no model ends in a softmax, so that training, evaluation, export and the server
cannot disagree. Left out: anything that is trained or loaded here, except MobileNetV2's ImageNet weights.
"""

import math
import socket
import warnings
from numbers import Integral

import keras
from keras import layers, ops

from kd_lib.keys import fingerprint

DOWNLOAD_TIMEOUT = 20  # seconds without an answer: a firewall that swallows packets would hold a download for minutes
BATCH_NORM_MOMENTUM = 0.9  # Keras' 0.99 needs hundreds of steps to forget its start: short runs then evaluate badly.


def _whole(name, value, least):
    """`value` as an int, which NumPy's numbers are not."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least} for this model. Received: {value!r}")
    return int(value)


@keras.saving.register_keras_serializable("kd_lib")
class ContrastNormalization(layers.Layer):
    """Bring each image to mean 0 and a mean absolute deviation of almost 1: night and haze look more like day.

    y = (x - mean) / (mean |x - mean| + floor), over all pixels and colours of the image, so that its hues stay.

    Args:
        floor: grey levels; keeps an image that is all one colour from becoming noise.
        **kwargs: as for every layer. It computes in float32, also under mixed precision.
    """

    def __init__(self, floor=4.0, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.floor = floor

    def call(self, images):
        """Return float32 [batch, height, width, channels] for images of that shape, 0..255."""
        images = ops.cast(images, "float32")
        centred = images - ops.mean(images, axis=(1, 2, 3), keepdims=True)
        deviation = ops.mean(ops.abs(centred), axis=(1, 2, 3), keepdims=True)
        return centred / (deviation + self.floor)

    def compute_output_shape(self, input_shape):
        """Return the shape of the images."""
        return input_shape

    def get_config(self):
        """Return what the layer was made with."""
        return super().get_config() | {"floor": self.floor}


def _normalized(inputs, contrast=True):
    if contrast:
        return ContrastNormalization(name="normalize")(inputs)
    # Traffic-sign photographs are dark: mean near 80, standard deviation near 70. The exact numbers matter little.
    return layers.Rescaling(1 / 64.0, offset=-80 / 64.0, name="normalize")(inputs)


def _convolution(x, filters, size, name):
    x = layers.Conv2D(filters, size, padding="same", name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def student(num_classes, image_size=32, width=1.0, dropout=0.0, contrast=True):
    """The five-convolution student of Zhang et al. 2019.

    64-64-pool-128-128-pool-256-average pool, every 3x3 convolution (with bias) followed by BatchNorm and ReLU, then
    Dense over the flattened map (4 x 4 x 256 at 32 pixels). 732,779 trainable parameters for 43 classes.

    Args:
        num_classes: number of logits, at least 2.
        image_size: side of the input in pixels, at least 8.
        width: multiplies every convolution's channels; 0.25 gives 16-16-32-32-64 (79,547 parameters).
        dropout: share of the flattened map dropped while training.
        contrast: False scales all images alike instead of bringing each to the same contrast.

    Returns:
        keras.Model, uint8 or float [batch, image_size, image_size, 3] in 0..255 -> float32 logits [batch, num_classes].

    Raises:
        ValueError: image too small, fewer than 2 classes, or a width that leaves no channel.
    """
    num_classes, image_size = _whole("num_classes", num_classes, 2), _whole("image_size", image_size, 8)
    if not width > 0 or round(64 * width) < 1:
        raise ValueError(f"width must be positive and leave at least one channel (>= 1/64). Received: {width}")
    inputs = layers.Input((image_size, image_size, 3), name="image")
    x = _normalized(inputs, contrast)
    for index, (channels, pool) in enumerate([(64, 0), (64, "max"), (128, 0), (128, "max"), (256, "average")], start=1):
        x = _convolution(x, round(channels * width), 3, f"block{index}")
        if pool:
            pooling = layers.MaxPooling2D if pool == "max" else layers.AveragePooling2D
            x = pooling(2, name=f"block{index}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=f"student_{width:g}".replace(".", "_"))


def teacher(num_classes, image_size=32, stream_width=64, downsample=False, cells=6):
    """The two-stream densely connected teacher of Zhang et al. 2019.

    Four stages, each 1x1 convolution -> six cells -> 1x1 convolution; a cell runs a 1x1 and a 3x3 convolution side by
    side on all its input and concatenates both with it. A stage's input is concatenated with its output, so stages are
    densely connected too. Every convolution is followed by BatchNorm and ReLU. Then average pooling and Dense.

    `downsample` makes of it a network that two CPU cores can train: two 3x3 convolutions read the image, the map is
    halved before each of the first two stages and by the average pooling at the end, and Dense reads what is left of
    it, pixel by pixel (4 x 4 at 32 pixels), as in the student.

    Args:
        num_classes: number of logits, at least 2.
        image_size: side of the input in pixels, at least 8.
        stream_width: channels of each stream of a cell. 64 gives about 7.4 M parameters and 7.5 G multiply-adds an
            image at 32 pixels without downsampling: for a GPU.
        downsample: see above; for images of at least 16 pixels. stream_width=64 with one cell a stage is 101 M
            multiply-adds.
        cells: number of cells in a stage, 6 in the paper.

    Returns:
        keras.Model, uint8 or float [batch, image_size, image_size, 3] in 0..255 -> float32 logits [batch, num_classes].

    Raises:
        ValueError: image too small, fewer than 2 classes, or stream_width or cells below 1.

    Source: Zhang et al. 2019, "Lightweight deep network for traffic sign classification".
    """
    num_classes = _whole("num_classes", num_classes, 2)
    image_size = _whole("image_size", image_size, 16 if downsample else 8)
    stream_width, cells = _whole("stream_width", stream_width, 1), _whole("cells", cells, 1)
    inputs = layers.Input((image_size, image_size, 3), name="image")
    x = _normalized(inputs)
    if downsample:
        for index in (1, 2):
            x = _convolution(x, stream_width, 3, f"stem{index}")
    for stage in range(1, 5):
        if downsample and stage < 3:
            x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        stage_input = x
        x = _convolution(x, 2 * stream_width, 1, f"stage{stage}_in")
        for cell in range(1, cells + 1):
            streams = [_convolution(x, stream_width, size, f"stage{stage}_cell{cell}_{size}x{size}") for size in (1, 3)]
            x = layers.Concatenate(name=f"stage{stage}_cell{cell}")([x, *streams])
        x = _convolution(x, 2 * stream_width, 1, f"stage{stage}_out")
        if stage < 4 or not downsample:
            x = layers.Concatenate(name=f"stage{stage}")([stage_input, x])
    if downsample:
        x = layers.AveragePooling2D(2, name="stage4_pool")(x)
        x = layers.Flatten(name="embedding")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="embedding")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=f"teacher_{stream_width}{'_downsample' if downsample else ''}")


@keras.saving.register_keras_serializable("kd_lib")
class MeanAnswer(layers.Layer):
    """The logarithm of the mean probability of several networks: logits of what they answer together.

    Args:
        **kwargs: as for every layer. It computes in float32, also under mixed precision.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)

    def call(self, logits):
        """Return float32 [batch, classes] for a list of logits of that shape."""
        answers = ops.stack([ops.log_softmax(ops.cast(one, "float32")) for one in logits])
        return ops.logsumexp(answers, axis=0) - math.log(len(logits))

    def compute_output_shape(self, input_shape):
        """Return the shape of the first one's logits."""
        return input_shape[0]


def committee(members, name="committee"):
    """Several networks as one that answers their mean probability; no weight is copied.

    Args:
        members: list of keras.Model, images of one size in, logits of the same classes out.
        name: of the model.

    Returns:
        keras.Model, images as the members take them -> float32 logits [batch, classes], whose softmax is the mean of
        the members' softmax. As a teacher it is what Hinton et al. (2015, arXiv 1503.02531) distilled from. It can be
        measured like any network; `Distiller(student, [one, another])` averages softened probabilities instead.

    Raises:
        ValueError: no members, or members of unequal inputs or classes.
    """
    shapes = {(member.input_shape, member.output_shape) for member in members}
    if len(shapes) != 1:
        raise ValueError(
            "A committee needs networks of the same input and classes, at least one. Received: "
            + (", ".join(sorted(map(str, shapes))) or "none")
        )
    image = layers.Input(members[0].input_shape[1:], name="image")
    parts = [keras.Model(one.input, one.output, name=f"member{n}") for n, one in enumerate(members)]  # unique names
    return keras.Model(image, MeanAnswer(name="logits")([part(image) for part in parts]), name=name)


def mobilenet_v2(num_classes, image_size=96, weights="imagenet"):
    """MobileNetV2 with a new head; its own scaling to [-1, 1] and resizing are inside.

    Args:
        num_classes: number of logits, at least 2.
        image_size: side in pixels that the network works at, at least 32; images of any size are resized to it.
        weights: "imagenet" (downloaded by Keras), None (random), or the path of a weights file of the backbone.

    Returns:
        keras.Model, uint8 or float [batch, height, width, 3] in 0..255 -> float32 logits [batch, num_classes]. The
        backbone is the layer named "backbone".

    Raises:
        ValueError: image_size below 32 or fewer than 2 classes.
        FileNotFoundError: `weights` is a path that does not exist.
        ConnectionError: the ImageNet weights could not be downloaded; the message names the other choices.

    Source: Sandler et al. 2018, arXiv 1801.04381.
    """
    num_classes, image_size = _whole("num_classes", num_classes, 2), _whole("image_size", image_size, 32)
    path = None if weights in ("imagenet", None) else str(weights)
    backbone = _backbone(image_size, None if path else weights)
    if path:
        try:
            backbone.load_weights(path)
        except (FileNotFoundError, OSError, ValueError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(
                f"MobileNetV2's backbone weights could not be read from {path!r}: {_first_line(error)} "
                "Give a weights file of keras.applications.MobileNetV2(include_top=False), or set KD_MOBILENET to "
                "imagenet or signs."
            ) from error
    inputs = layers.Input((None, None, 3), name="image")
    x = layers.Resizing(image_size, image_size, interpolation="bilinear", name="resize")(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalize")(x)
    x = backbone(x)
    x = layers.GlobalAveragePooling2D(name="embedding")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    model = keras.Model(inputs, logits, name="mobilenet_v2")
    if weights is not None:
        model.starts_from = fingerprint(backbone)  # `fit_or_load` asks what its weights were
    return model


def _backbone(image_size, weights):
    timeout = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
        with warnings.catch_warnings():
            # Keras warns where it has no weights of that image size and takes those for 224 pixels: they fit any size.
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square")
            inputs = layers.Input((image_size, image_size, 3), name="scaled_image")  # Keras' own would be numbered
            backbone = keras.applications.MobileNetV2(
                inputs.shape[1:], input_tensor=inputs, include_top=False, weights=weights, name="backbone"
            )
    except Exception as error:
        if weights is None:
            raise
        raise ConnectionError(
            f"MobileNetV2's ImageNet weights could not be downloaded or read ({_first_line(error)}). Set "
            "KD_MOBILENET=signs for a backbone pretrained here on drawn signs, or KD_MOBILENET=/path/to/weights for a "
            "file that you have: the .h5 file that Keras downloads, or a .weights.h5 file. (A download that was broken "
            "off leaves a damaged file in ~/.keras/models: delete it.)"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return backbone


def _first_line(error):
    return next(iter(str(error).splitlines()), type(error).__name__)
