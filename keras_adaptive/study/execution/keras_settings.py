"""Keras's global settings, from one process to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class KerasSettings:
    """The settings of Keras that decide numbers.

    Args:
        floatx: The default type of numbers.
        epsilon: The default epsilon.
        image_data_format: The default order of the axes of images.
        dtype_policy: The configuration of the global policy.
    """

    floatx: str
    epsilon: float
    image_data_format: str
    dtype_policy: dict[str, Any]

    @classmethod
    def here(cls) -> KerasSettings:
        """Returns the settings of this process."""
        return cls(
            keras.config.floatx(),
            keras.config.epsilon(),
            keras.config.image_data_format(),
            keras.dtype_policies.serialize(keras.config.dtype_policy()),
        )

    def environment(self, backend: str) -> dict[str, str]:
        """Returns the environment variables of a process with these settings.

        Args:
            backend: The backend of Keras in the process.
        """
        variables = {"KERAS_BACKEND": backend}
        if backend == "jax" and self.floatx == "float64":
            variables["JAX_ENABLE_X64"] = "1"
        return variables

    def apply(self) -> None:
        """Sets them in this process."""
        keras.config.set_floatx(self.floatx)
        keras.config.set_epsilon(self.epsilon)
        keras.config.set_image_data_format(self.image_data_format)
        policy = keras.dtype_policies.deserialize(self.dtype_policy)
        keras.config.set_dtype_policy(policy)
