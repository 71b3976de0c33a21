"""What sparse updates and layers need of a backend.

`rows` has gather, scatter and sums over equal ids; `bags` has products of sparse
matrices and tables. Both are modules of the backend in use. They are `None` on JAX,
whose gradients of tables are dense.
"""

from __future__ import annotations

from typing import Any

from keras_adaptive.optimizers.engine.backend import ON_TENSORFLOW, ON_TORCH

rows: Any = None
bags: Any = None
if ON_TENSORFLOW:
    from keras_adaptive.optimizers.engine.tensorflow import bags as bags_on_tensorflow
    from keras_adaptive.optimizers.engine.tensorflow import rows as rows_on_tensorflow

    rows, bags = rows_on_tensorflow, bags_on_tensorflow
elif ON_TORCH:
    from keras_adaptive.optimizers.engine.torch import bags as bags_on_torch
    from keras_adaptive.optimizers.engine.torch import rows as rows_on_torch

    rows, bags = rows_on_torch, bags_on_torch
