"""Pruning by channel: BatchNorm scales are pushed towards zero while training, then whole channels go.

What comes out is a smaller Functional model with the surviving weights, not a mask: it is faster at once, everywhere.
It works for plain chains of convolution, BatchNorm, activation, pooling and Dense, such as the course's student. Left
out: graphs with branches, whose channels hang together, and recovery, which is a distillation like any other.
"""

import keras
import numpy as np
from keras import layers, ops

from kd_lib.chain import new_input, plain_chain

_PASS = (  # they treat each channel by itself and turn a channel of zeros into zeros
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.ZeroPadding2D,
)


def sparse(model, strength=1e-4):
    """Return a copy of a model, with its weights, whose BatchNorm scales γ carry an L1 penalty while it is trained.

    Args:
        model: Functional keras.Model with BatchNormalization layers.
        strength: of the penalty, strength · Σ |γ|, added to the loss. 1e-5 to 1e-3; 0 for none.

    Returns:
        keras.Model.

    Raises:
        ValueError: a strength below 0, or a model without BatchNormalization.

    Source: Liu et al. 2017, arXiv 1708.06519, equation 1.
    """
    if not 0 <= strength < float("inf"):
        raise ValueError(f"strength must be a finite number, 0 or more. Received: {strength!r}")
    if not any(isinstance(layer, layers.BatchNormalization) for layer in model.layers):
        raise ValueError(f"{model.name} has no BatchNormalization layer, whose scales could be made sparse.")

    def copy(layer):
        config = layer.get_config()
        if isinstance(layer, layers.BatchNormalization):
            config["gamma_regularizer"] = keras.regularizers.L1(strength) if strength else None
        return type(layer).from_config(config)

    made = keras.models.clone_model(model, clone_function=copy)
    made.set_weights(model.get_weights())
    made.was_trained = getattr(model, "was_trained", False)
    return made


def prune_channels(model, fraction):
    """Return a smaller model without the channels whose BatchNorm scales |γ| are the smallest.

    One threshold for the whole network: the `fraction` of all channels with the smallest |γ| goes, but each layer keeps
    its largest. The logits are those of the original with γ and β of these channels set to 0.

    Args:
        model: Functional keras.Model, a plain chain, images -> logits.
        fraction: share of the channels that goes, 0 to below 1.

    Returns:
        keras.Model of the same input and output, without the penalty of `sparse`; its name ends in "_pruned".

    Raises:
        ValueError: a fraction outside [0, 1), nothing that can be pruned, or a layer that a chain cannot hold; the
            message names it.

    Source: Liu et al. 2017, arXiv 1708.06519, section 3.
    """
    return _rebuilt(model, plain_chain(model, "pruned"), surviving(model, fraction))


def surviving(model, fraction):
    """Return which channels `prune_channels` keeps: {convolution's name: int array of their places}.

    Args:
        model, fraction: as for `prune_channels`, which says what is refused.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must lie in [0, 1). Received: {fraction!r}")
    chain = plain_chain(model, "pruned")
    norms = _prunable(chain, model)
    scales = {name: np.abs(ops.convert_to_numpy(norm.gamma)) for name, norm in norms.items()}
    everything = np.concatenate(list(scales.values()))
    stays = np.ones(len(everything), bool)
    place = np.concatenate([np.arange(len(scale)) / len(scale) for scale in scales.values()])
    order = np.lexsort((place, everything))  # of equal scales, each layer loses the same share
    stays[order[: round(fraction * len(everything))]] = False
    parts = np.split(stays, np.cumsum([len(scale) for scale in scales.values()])[:-1])
    return {
        name: np.flatnonzero(part) if part.any() else np.array([scale.argmax()])
        for (name, scale), part in zip(scales.items(), parts, strict=True)
    }


def _prunable(chain, model):
    """Return {convolution's name: the BatchNorm after it} for each pair that can lose channels."""
    norms, convolution = {}, None
    cut = False  # whether the numbers between two layers may lack channels
    for layer in chain:
        kind, before = type(layer), convolution
        convolution = None
        if kind is layers.Conv2D:
            if layer.groups != 1:
                raise ValueError(f"Layer {layer.name!r} of {model.name} is a convolution in groups: not supported.")
            convolution, cut = layer, False
        elif kind is layers.Dense:
            cut = False
        elif kind is layers.BatchNormalization and before is not None:
            if layer.scale and layer.center and _keeps_zero(before):
                norms[before.name], cut = layer, True
        elif cut and isinstance(layer, (layers.Activation, *_PASS)) and not _keeps_zero(layer):
            raise ValueError(
                f"Layer {layer.name!r} of {model.name} does not turn 0 into 0: a channel without scale would still "
                "say something after it."
            )
        elif cut and not isinstance(layer, (layers.Activation, layers.Flatten, *_PASS)):
            raise ValueError(f"Layer {layer.name!r} ({kind.__name__}) of {model.name} cannot be pruned through.")
    if cut:
        norms.popitem()  # its channels are the answers
    if not norms:
        raise ValueError(f"{model.name} has no convolution followed by BatchNormalization: nothing can be pruned.")
    return norms


def _keeps_zero(layer):
    activation = getattr(layer, "activation", None)
    if isinstance(layer, layers.ReLU):
        activation = layer
    if activation is None:
        return True
    answer = ops.convert_to_numpy(activation(ops.convert_to_tensor([[0.0, 1.0]])))  # a channel of zeros and another
    return float(answer[0, 0]) == 0.0


def _rebuilt(model, chain, keep):
    """Build the chain anew with the channels that stay, and give it their weights."""
    inputs = new_input(model)
    x, kept = inputs, None  # kept: places of the previous layer's channels, None for all
    for layer in chain:
        config, values = layer.get_config(), [ops.convert_to_numpy(value) for value in layer.weights]
        if isinstance(layer, layers.Conv2D):
            values[0] = values[0] if kept is None else values[0][:, :, kept]
            kept = keep.get(layer.name)
            if kept is not None:
                config["filters"] = len(kept)
                values = [value[..., kept] for value in values]
        elif isinstance(layer, layers.BatchNormalization):
            config["gamma_regularizer"] = None  # it has done its work
            values = values if kept is None else [value[kept] for value in values]
        elif isinstance(layer, layers.Flatten) and kept is not None:
            channels = layer.input.shape[-1]
            kept = np.arange(int(np.prod(layer.input.shape[1:]))).reshape(-1, channels)[:, kept].ravel()
        elif isinstance(layer, layers.Dense):
            values[0] = values[0] if kept is None else values[0][kept]
            kept = None
        made = type(layer).from_config(config)
        x = made(x)
        made.set_weights(values)
    pruned = keras.Model(inputs, x, name=f"{model.name}_pruned")
    pruned.was_trained = True  # `fit_or_load` asks what its weights were
    return pruned
