"""Plain chains of layers: what pruning and quantisation can take apart and put together again."""

from keras import layers


def plain_chain(model, verb):
    """Return the layers of a model from input to output, without the input layer.

    Args:
        model: Functional keras.Model.
        verb: what is to be done to it, for the message: "pruned".

    Raises:
        ValueError: a layer reads anything but the one before it, something comes after the last, or BatchNorm is not
            over channels; the message names it.
    """
    if hasattr(model, "student"):
        raise ValueError(f"Pass the student of a Distiller, distiller.student: only a plain chain can be {verb}.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"{model.name} has several inputs or outputs; only a plain chain can be {verb}.")
    chain = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    previous = model.inputs[0]
    for layer in chain:
        read = layer.input
        if isinstance(read, list | tuple | dict) or read is not previous:
            raise ValueError(
                f"Layer {layer.name!r} of {model.name} does not simply read the layer before it (a skip connection, a "
                "branch, an operation that is no layer, or a layer that is used in two places): its channels hang "
                f"together with others, and only a plain chain can be {verb}."
            )
        if isinstance(layer, layers.BatchNormalization) and layer.axis not in (-1, len(read.shape) - 1):
            raise ValueError(f"Layer {layer.name!r} of {model.name} must normalize the last axis, the channels.")
        previous = layer.output
    if previous is not model.outputs[0]:
        raise ValueError(
            f"{model.name} does something after its last layer, {chain[-1].name!r} (an operation that is no layer, or "
            f"a layer that is used in two places): only a plain chain of layers can be {verb}."
            if chain
            else f"{model.name} has no layers."
        )
    return chain


def new_input(model):
    """Return an Input like the model's, for a chain built anew."""
    old = model.inputs[0]
    return layers.Input(old.shape[1:], name=old.name.split(":")[0], dtype=old.dtype)
