"""Networks as .tflite files: `export` writes one from a Keras model, `Classifier` runs it without TensorFlow.

What a file needs to know beside its weights (class names, calibration) travels inside it, as a zip archive behind the
network: the place that TensorFlow Lite's tools know for "associated files". Left out: files of other shapes than one
image in, one row of logits out.
"""

import hashlib
import io
import json
import threading
import zipfile
from pathlib import Path

import numpy as np

from kd_lib.files import writing

FACTS = "kd_lib.json"
_DIGEST = "sha256"  # of the network, among the facts: LiteRT trusts its bytes and can crash on damaged ones
_KINDS = (None, "float16", "int8")


def export(model, path, *, quantize="int8", representative=None, facts=None):
    """Write a Keras model as a .tflite file that answers one image at a time.

    Args:
        model: keras.Model, images [batch, height, width, 3] in 0..255 -> logits [batch, classes].
        path: the file, ending in .tflite.
        quantize: "int8": weights (per output channel in convolutions) and activations in 8 bits, uint8 images in;
            "float16": weights in 16 bits, float32 images in; None: float32 throughout.
        representative: uint8 [n, height, width, 3], a few hundred training images: the ranges of activations for
            "int8". Not needed for a model made by `kd_lib.quantization.quantize_aware`, which brings its own.
        facts: dict that json can write, kept inside the file; `Classifier.facts` reads it. The name "sha256" is taken:
            it tells a damaged network.

    Returns:
        Path of the file.

    Raises:
        ValueError: another `quantize`, "int8" without representative images, or a model that does not fit.
    """
    if quantize not in _KINDS:
        raise ValueError(f"quantize must be one of {', '.join(map(repr, _KINDS))}. Received: {quantize!r}")
    path = Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"the path must end in .tflite. Received: {str(path)!r}")
    if hasattr(model, "student"):
        raise ValueError("Pass the student of a Distiller, distiller.student, to be exported.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        has = f"{len(model.inputs)} and {len(model.outputs)}"
        raise ValueError(f"{model.name} must have one input and one output; it has {has}.")
    shape = model.input_shape
    if len(shape) != 4 or shape[3] != 3 or len(model.output_shape) != 2:
        raise ValueError(f"{model.name} must take images and give logits. Shapes: {shape} -> {model.output_shape}")
    if None in shape[1:]:
        raise ValueError(f"{model.name} takes images of any size; a .tflite file needs one. Wrap it in a fixed Input.")
    options = _converter_options(model, quantize, representative)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as temporary:
        _convert(model, temporary, options)
        _append(temporary, facts or {})
    return path


def attach(path, facts):
    """Replace the facts inside a .tflite file; the network stays as it is.

    Args:
        path: the file.
        facts: dict that json can write.

    Returns:
        Path of the file.
    """
    path = Path(path)
    content = path.read_bytes()
    with writing(path) as temporary:
        temporary.write_bytes(content[: _end_of_network(content)])
        _append(temporary, facts)
    return path


def _append(path, facts):
    text = json.dumps({**facts, _DIGEST: hashlib.sha256(Path(path).read_bytes()).hexdigest()})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(FACTS), text, zipfile.ZIP_DEFLATED)  # no date: same bytes again


def _end_of_network(content):
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return min(entry.header_offset for entry in archive.infolist())
    except Exception:  # a damaged archive makes its reader fail in every way there is
        return len(content)


def _converter_options(model, quantize, representative):
    import tensorflow as tf

    if quantize is None:
        return {}
    options = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if quantize == "float16":
        return options | {"target_spec": {"supported_types": [tf.float16]}}
    options |= {"inference_input_type": tf.uint8, "inference_output_type": tf.float32}
    if any(hasattr(layer, "is_fake_quantized") for layer in model.layers):
        return options
    if representative is None or len(representative) == 0:
        raise ValueError("int8 needs representative=images (some hundred of the training images), for its ranges.")
    images = np.asarray(representative)
    if images.ndim != 4 or images.shape[1:] != tuple(model.input_shape[1:]):
        raise ValueError(f"representative images must be [n, *{model.input_shape[1:]}]. Received: {images.shape}")
    return options | {
        "representative_dataset": lambda: ([image[None]] for image in _with_extremes(images)),
        "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
    }


def _with_extremes(images):
    """Images as float32; the first has a black and a white pixel: then the input's 256 values are 0 to 255 themselves,
    which is what `Classifier` feeds."""
    for place, image in enumerate(images.astype(np.float32)):
        if place == 0:
            image[0, 0], image[-1, -1] = 0, 255
        yield image


def _convert(model, path, options):
    import keras

    one = keras.InputSpec(dtype="float32", shape=(1, *model.input_shape[1:]))
    made = Path(path).with_suffix(".tflite")  # Keras insists on the ending
    model.export(str(made), format="litert", verbose=False, input_signature=[one], **options)
    made.replace(path)


class Classifier:
    """A .tflite network in memory; needs NumPy and ai_edge_litert alone. It may be shared by threads.

    Attributes:
        image_size: (height, width) in pixels of the images that it takes.
        num_classes: number of logits.
        facts: dict that `export` was given; empty for files made elsewhere.

    Args:
        path: the .tflite file: one image [1, height, width, 3], uint8 or float32 in 0..255, in; logits out.
        threads: of one answer; for networks this small more than 1 does not help.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, no .tflite file, or has other inputs or outputs.
    """

    def __init__(self, path, *, threads=1):
        from ai_edge_litert.interpreter import Interpreter

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no .tflite file at {path}")
        content = path.read_bytes()
        if content[4:8] != b"TFL3":
            raise ValueError(f"{path} is not a .tflite file (its bytes 4 to 8 do not read TFL3).")
        self.facts = _read_facts(content, path)  # before LiteRT: it also says whether the network is whole
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{path} is damaged or truncated, LiteRT cannot load it: {reason}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shapes = [[tuple(detail["shape"].tolist()) for detail in details] for details in (inputs, outputs)]
        kinds = [detail["dtype"] for detail in (*inputs, *outputs)]
        if not (
            [len(found) for found in shapes] == [1, 1]
            and len(shapes[0][0]) == 4
            and shapes[0][0][::3] == (1, 3)
            and len(shapes[1][0]) == 2
            and kinds[0] in (np.uint8, np.float32)
            and kinds[1] in (np.uint8, np.int8, np.float32)
        ):
            names = [kind.__name__ for kind in kinds]
            raise ValueError(
                f"{path} must take one image [1, height, width, 3], uint8 or float32, and give one row of logits; "
                f"it takes {shapes[0]} and gives {shapes[1]} ({', '.join(names)})."
            )
        self._input, self._output, self._lock = inputs[0], outputs[0], threading.Lock()
        self.image_size, self.num_classes = shapes[0][0][1:3], shapes[1][0][1]

    def predict(self, images):
        """Return logits, float32 [n, classes], for images [n, height, width, 3] in 0..255.

        Raises:
            ValueError: images of another shape or range.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != (*self.image_size, 3):
            raise ValueError(f"images must be [n, {self.image_size[0]}, {self.image_size[1]}, 3], got {images.shape}")
        if images.size and not (images.min() >= 0 and images.max() <= 255):
            raise ValueError(f"images must lie in 0..255, got {images.min()} to {images.max()}")
        if images.dtype != np.uint8 and self._input["dtype"] == np.uint8:
            images = np.rint(images)
        images = images.astype(self._input["dtype"], copy=False)
        answers = np.empty((len(images), self.num_classes), self._output["dtype"])
        with self._lock:  # an interpreter works on one image at a time
            for image, answer in zip(images, answers, strict=True):
                self._interpreter.set_tensor(self._input["index"], image[None])
                self._interpreter.invoke()
                answer[:] = self._interpreter.get_tensor(self._output["index"])[0]
        scale, zero = self._output["quantization"]
        logits = answers.astype(np.float32)
        return (logits - zero) * np.float32(scale) if answers.dtype != np.float32 else logits


def _read_facts(content, path):
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            facts = json.loads(archive.read(FACTS))
    except KeyError:  # other tools keep other files there
        return {}
    except Exception as error:  # as in `_end_of_network`
        begun = b"PK\x03\x04" in content and FACTS.encode() in content  # an archive that begins and does not end
        if begun or content.rfind(b"PK") >= len(content) - 64:
            raise ValueError(f"{path} is damaged or truncated: what it says of itself cannot be read.") from error
        return {}
    facts = facts if isinstance(facts, dict) else {}
    digest = facts.pop(_DIGEST, None)
    if digest not in (None, hashlib.sha256(content[: _end_of_network(content)]).hexdigest()):
        raise ValueError(f"{path} is damaged: its network is not the one that was exported.")
    return facts
