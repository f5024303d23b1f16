"""kd_lib: knowledge distillation for Keras, taught on traffic signs.

The public names are imported on first use, so that `import kd_lib` is instant and loads no TensorFlow.
"""

import importlib

from kd_lib import scale  # noqa: F401  sets what TensorFlow reads when it starts; imports no TensorFlow

__version__ = "0.1.0"

_HOME_OF = {
    "Config": "training",
    "Dataset": "datasets",
    "Distiller": "distiller",
    "Report": "evaluation",
    "Scale": "scale",
    "Split": "datasets",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "fit_or_load": "training",
    "load_dataset": "datasets",
}
_MODULES = (
    "abroad",
    "cache",
    "course",
    "datasets",
    "distiller",
    "evaluation",
    "feeding",
    "litert",
    "losses",
    "models",
    "plots",
    "pretraining",
    "pruning",
    "quantization",
    "quiz",
    "recognition",
    "replay",
    "results",
    "serving",
    "shipping",
    "signs",
    "training",
    "views",
)
__all__ = sorted([*_HOME_OF, *_MODULES, "scale"])


def __getattr__(name):
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"kd_lib.{_HOME_OF[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"kd_lib.{name}")
    raise AttributeError(f"module 'kd_lib' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return __all__
