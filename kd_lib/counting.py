"""How large a network is: its learned values and its multiply-adds. Left out: bytes and speed."""

import math


def count_params(model):
    """Number of learned values: every weight but BatchNorm's moving statistics, frozen or not.

    Args:
        model: a built Keras model.

    Returns:
        int
    """
    statistics = ("moving_mean", "moving_variance")
    return sum(math.prod(weight.shape) for weight in model.weights if weight.name not in statistics)


def count_macs(model):
    """Multiply-adds of one image in the Conv2D, DepthwiseConv2D and Dense layers, those of nested models included.

    Args:
        model: a Functional or built Sequential model with a fixed image size. A layer called twice counts twice.

    Returns:
        int

    Raises:
        ValueError: the model has no graph, an unknown size, or a kernel of a kind that is not counted.
    """
    from keras import layers

    graph = getattr(model, "_functional", None) or model  # a Sequential keeps its graph there
    # Keras has no public list of a graph's calls, and a layer's own .output fails for a layer that is called twice.
    if not hasattr(graph, "_nodes_by_depth"):
        raise ValueError(f"{model.name!r} is not a built Functional or Sequential model; pass e.g. distiller.student")
    total = 0
    for node in (node for nodes in graph._nodes_by_depth.values() for node in nodes):
        layer = node.operation
        if hasattr(layer, "_nodes_by_depth") or getattr(layer, "_functional", None):
            inner, outer = layer.inputs[0].shape[1:], node.input_tensors[0].shape[1:]
            if inner != outer:
                raise ValueError(f"{layer.name!r} is built for {inner} but called on {outer}; build it for that size")
            total += count_macs(layer)
        elif isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
            shape = node.outputs[0].shape[1:]
            first = isinstance(layer, layers.Dense) or layer.data_format == "channels_last"
            positions = shape[:-1] if first else shape[1:]  # a kernel is applied once at each output position
            if None in positions:
                raise ValueError(f"{layer.name!r} has an unknown output size {shape}; build the model for a fixed size")
            total += math.prod(layer.kernel.shape) * math.prod(positions)
        elif any(weight.name.endswith("kernel") for weight in getattr(layer, "weights", ())):
            raise ValueError(f"{layer.name!r} ({type(layer).__name__}) is a kind of layer whose work is not counted")
    return total
