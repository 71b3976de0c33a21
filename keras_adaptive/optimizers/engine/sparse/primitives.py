"""What sparse updates need of a backend: gather, scatter, sums over equal ids.

`rows` is the module of the backend in use. It is `None` on JAX, whose gradients of
tables are dense.
"""

from __future__ import annotations

from typing import Any

from keras_adaptive.optimizers.engine.backend import ON_TENSORFLOW, ON_TORCH

rows: Any = None
if ON_TENSORFLOW:
    from keras_adaptive.optimizers.engine.tensorflow import rows as on_tensorflow

    rows = on_tensorflow
elif ON_TORCH:
    from keras_adaptive.optimizers.engine.torch import rows as on_torch

    rows = on_torch
