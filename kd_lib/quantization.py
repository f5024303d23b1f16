"""Quantisation-aware training: a network that rounds, while it learns, as the 8-bit one will.

`quantize_aware` takes a trained network and returns the same chain of layers with BatchNorm folded into the weights
and "fake" quantisation behind them: float numbers that take 256 values only, through which gradients pass as if nothing
had been rounded. It is trained like any student (by `Distiller`, from the same teacher) and `kd_lib.litert.export`
turns it into an int8 file without looking at images. Left out: graphs with branches, and anything but 8 bits.
"""

import keras
import numpy as np
from keras import layers, ops

from kd_lib.chain import new_input, plain_chain
from kd_lib.models import ContrastNormalization

_fake_quantize = keras.quantizers.fake_quant_with_min_max_vars


def _rounded_range(values):
    """Return (low, high), smallest and largest value or 0, to three digits: keys must not change with the last ones."""
    low, high = min(float(np.min(values)), 0.0), max(float(np.max(values)), 1e-3)
    return float(f"{low:.3g}"), float(f"{high:.3g}")


def _per_channel(kernel):
    """Fake-quantise convolution weights, [..., out], each output channel by its own largest weight."""
    high = ops.maximum(ops.stop_gradient(ops.max(ops.abs(kernel), axis=tuple(range(len(kernel.shape) - 1)))), 1e-6)
    return _fake_quantize(kernel, -high, high, num_bits=8, narrow_range=True, axis=-1)


def _per_tensor(kernel):
    high = ops.maximum(ops.stop_gradient(ops.max(ops.abs(kernel))), 1e-6)
    return _fake_quantize(kernel, -high, high, num_bits=8, narrow_range=True)


@keras.saving.register_keras_serializable("kd_lib")
class FakeQuantize(layers.Layer):
    """Round activations to the 256 values between `low` and `high`; gradients pass where nothing is clipped.

    Args:
        low, high: the range, low <= 0 < high; both are moved a little so that 0 is one of the values.
        **kwargs: as for every layer. It computes in float32.
    """

    is_fake_quantized = True

    def __init__(self, low, high, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        if not low <= 0 < high:
            raise ValueError(f"the range must hold 0: low <= 0 < high. Received: {low}, {high}")
        self.low, self.high = float(low), float(high)

    def call(self, x):
        return _fake_quantize(x, self.low, self.high, num_bits=8)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("kd_lib")
class QuantizedConv2D(layers.Conv2D):
    """A convolution with bias whose kernel is rounded to 8 bits, each output channel by its own largest weight."""

    def call(self, inputs):
        kernel = _per_channel(self.kernel)
        options = {"strides": list(self.strides), "padding": self.padding, "dilation_rate": self.dilation_rate}
        return self.activation(ops.add(ops.conv(inputs, kernel, **options), self.bias))


@keras.saving.register_keras_serializable("kd_lib")
class QuantizedDense(layers.Dense):
    """A dense layer with bias whose kernel is rounded to 8 bits by its largest weight."""

    def call(self, inputs, training=None):
        return self.activation(ops.add(ops.matmul(inputs, _per_tensor(self.kernel)), self.bias))


@keras.saving.register_keras_serializable("kd_lib")
class QuantizedContrastNormalization(ContrastNormalization):
    """`ContrastNormalization` from steps that 8-bit hardware does well, each of them rounded.

    Means are convolutions over the whole image. Since grey levels above the mean weigh as much as those below, the mean
    absolute deviation is twice the mean of the positive ones. Dividing every pixel is slow in integers, so one number
    per image, 1 / (deviation + floor), multiplies them all.

    Args:
        centred, deviation, normalized: (low, high) of the pixels without their mean, of deviation + floor, and of what
            comes out.
        floor, **kwargs: as for ContrastNormalization.
    """

    is_fake_quantized = True

    def __init__(self, centred, deviation, normalized, floor=4.0, **kwargs):
        super().__init__(floor, **kwargs)
        self.ranges = {"centred": tuple(centred), "deviation": tuple(deviation), "normalized": tuple(normalized)}

    @staticmethod
    def ranges_of(images, floor):
        """Return the three ranges, a dict, for images [n, height, width, 3] in 0..255."""
        images = np.asarray(images, np.float32)
        centred = images - images.mean(axis=(1, 2, 3), keepdims=True)
        deviation = np.abs(centred).mean(axis=(1, 2, 3), keepdims=True) + floor
        found = {"centred": centred, "deviation": deviation, "normalized": centred / deviation}
        return {name: _rounded_range(values) for name, values in found.items()}

    def call(self, images):
        """Return float32 [batch, height, width, channels] for images of that shape, 0..255."""
        shape = images.shape[1:]
        averaging = ops.ones((*shape, 1), dtype="float32") / float(np.prod(shape))
        mean = _fake_quantize(ops.conv(images, averaging, padding="valid"), 0.0, 255.0, num_bits=8)
        centred = self._rounded(images - mean, "centred")
        above = self._rounded(ops.relu(centred), "centred")
        deviation = self._rounded(ops.conv(above, 2.0 * averaging, padding="valid") + self.floor, "deviation")
        gain = _fake_quantize(1.0 / deviation, 0.0, 1.0 / self.floor, num_bits=8)
        return self._rounded(centred * gain, "normalized")

    def _rounded(self, values, name):
        return _fake_quantize(values, *self.ranges[name], num_bits=8)

    def get_config(self):
        """Return what the layer was made with."""
        return super().get_config() | self.ranges


def quantize_aware(model, representative, batch_size=64):
    """Return the network with BatchNorm folded in and every weight and activation rounded to 8 bits as it computes.

    Args:
        model: trained Functional keras.Model, a plain chain of ContrastNormalization, Conv2D and Dense without
            activation, BatchNormalization behind one of these, ReLU, pooling, Flatten and Dropout.
        representative: uint8 [n, height, width, 3], some hundred training images: the ranges of activations are those
            that these images bring about in `model`, and stay.
        batch_size: images at a time while ranges are found.

    Returns:
        keras.Model of the same input and output shapes, its name ending in "_quantized". Train it with a small learning
        rate: it begins where `model` ended.

    Raises:
        ValueError: no images, or a layer that is not in the list; the message names it.

    Source: Jacob et al. 2018, arXiv 1712.05877; Krishnamoorthi 2018, arXiv 1806.08342.
    """
    if len(representative) == 0:
        raise ValueError("representative holds no image: take some hundred of the training images.")
    chain = plain_chain(model, "quantised")
    ranges = _find_ranges(model, chain, representative, batch_size)
    inputs = new_input(model)
    current = (0.0, 255.0)
    x = FakeQuantize(*current, name="image_8bit")(inputs)
    for layer, norm, following in _with_norms(chain):
        if type(layer) in (layers.Conv2D, layers.Dense):
            _check(layer, model)
            x = _quantized(layer, norm)(x)
            if not isinstance(following, layers.ReLU):  # else convolution and ReLU become one operator: nothing between
                current = ranges[(norm or layer).name]
                x = FakeQuantize(*current, name=f"{layer.name}_8bit")(x)
        elif isinstance(layer, ContrastNormalization):
            found = QuantizedContrastNormalization.ranges_of(representative, layer.floor)
            current = found["normalized"]
            x = QuantizedContrastNormalization(**found, floor=layer.floor, name=layer.name)(x)
        elif isinstance(layer, layers.ReLU):
            if layer.threshold or layer.negative_slope or layer.max_value not in (None, 6):
                raise ValueError(
                    f"Layer {layer.name!r} of {model.name} is a ReLU with a slope, a threshold or a maximum other than "
                    "6: 8-bit operators do not have it."
                )
            current = ranges[layer.name]
            x = FakeQuantize(*current, name=f"{layer.name}_8bit")(_again(layer)(x))
        elif isinstance(layer, layers.AveragePooling2D | layers.GlobalAveragePooling2D):
            # averaging in 8 bits keeps the scale of what comes in
            x = FakeQuantize(*current, name=f"{layer.name}_8bit")(_again(layer)(x))
        elif isinstance(layer, layers.MaxPooling2D | layers.GlobalMaxPooling2D | layers.Flatten | layers.Dropout):
            x = _again(layer)(x)
        else:
            raise ValueError(f"Layer {layer.name!r} ({type(layer).__name__}) of {model.name} cannot be quantised.")
    quantized = keras.Model(inputs, x, name=f"{model.name}_quantized")
    quantized.was_trained = True  # `fit_or_load` asks what its weights were
    return quantized


def _check(layer, model):
    if layer.activation is not keras.activations.linear:
        raise ValueError(f"Layer {layer.name!r} of {model.name} has an activation of its own: make it a layer, ReLU.")
    if getattr(layer, "groups", 1) != 1:
        raise ValueError(f"Layer {layer.name!r} of {model.name} is a convolution in groups: it cannot be quantised.")


def _again(layer):
    return type(layer).from_config(layer.get_config())


def _with_norms(chain):
    """Yield (layer, the BatchNorm to be folded into it or None, the layer after both or None)."""
    rest = list(chain)
    while rest:
        layer, norm = rest.pop(0), None
        folds = type(layer) in (layers.Conv2D, layers.Dense)
        if folds and rest and isinstance(rest[0], layers.BatchNormalization):
            norm = rest.pop(0)
        yield layer, norm, rest[0] if rest else None


def _quantized(layer, norm):
    """Return a layer that rounds its kernel, with the weights of convolution or Dense and BatchNorm in one."""
    kernel = ops.convert_to_numpy(layer.kernel)
    bias = ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
    if norm is not None:
        mean, variance = (ops.convert_to_numpy(value) for value in (norm.moving_mean, norm.moving_variance))
        gamma = ops.convert_to_numpy(norm.gamma) if norm.scale else 1.0
        beta = ops.convert_to_numpy(norm.beta) if norm.center else 0.0
        factor = gamma / np.sqrt(variance + norm.epsilon)
        kernel, bias = kernel * factor, beta + (bias - mean) * factor
    kind = QuantizedConv2D if isinstance(layer, layers.Conv2D) else QuantizedDense
    made = kind.from_config(layer.get_config() | {"use_bias": True})
    made.build(layer.input.shape)
    made.set_weights([kernel, bias])
    return made


def _find_ranges(model, chain, images, batch_size):
    """Return {layer's name: (low, high) of its output} over the images."""
    probe = keras.Model(model.inputs, [layer.output for layer in chain])
    found = {layer.name: [] for layer in chain}
    for start in range(0, len(images), batch_size):
        outputs = probe.predict_on_batch(np.asarray(images[start : start + batch_size]))
        for name, output in zip(found, outputs, strict=True):
            found[name] += [output.min(), output.max()]
    return {name: _rounded_range(values) for name, values in found.items()}
