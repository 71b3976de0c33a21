"""Which variables weight decay applies to, through the hooks of Keras."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from keras_adaptive.optimizers.adapter.applying import AppliesGradients
from keras_adaptive.optimizers.contract.naming import path_of
from keras_adaptive.optimizers.contract.override import override

EXCLUDED = "exclude_from_weight_decay"
"""The entry of a config with the pattern of the excluded variables."""


class DecaysVariables(AppliesGradients):
    """Excludes variables from weight decay, also after `build`, and saves which."""

    @override
    def exclude_from_weight_decay(
        self,
        var_list: Iterable[Any] | None = None,
        var_names: Iterable[str] | None = None,
    ) -> None:
        """Excludes variables from weight decay, instead of those excluded before.

        It may be called before and after `build`, until the first step. `var_names` are
        saved with the optimizer. `var_list` is not, because a loaded model has other
        variables: call this method again after loading.

        Args:
            var_list: The variables.
            var_names: Regular expressions; each variable in whose path one occurs is
                excluded.

        Raises:
            ValueError: The optimizer has already made a step.
        """
        if self.built and self._engine.has_stepped:
            raise ValueError(
                f"{type(self).__name__}: `exclude_from_weight_decay` must be called "
                "before the first step, because compiled steps keep to what decayed "
                "then. Exclude variables before training, or save the model, load it, "
                "and exclude them before training goes on."
            )
        # Keras joins the names in an order of its own, and configs identify runs.
        pattern = "|".join(var_names or ())
        names = [pattern] if pattern else None

        def exclude() -> None:
            super(DecaysVariables, self).exclude_from_weight_decay(var_list, names)

        self._change_decay(exclude)

    def __setattr__(self, name: str, value: Any) -> None:
        def change() -> None:
            super(DecaysVariables, self).__setattr__(name, value)

        if name != "weight_decay" or not getattr(self, "built", False):
            change()
            return
        before, owner = self.weight_decay, type(self).__name__
        if (before is None) == (value is None):
            change()
        elif self._engine.has_stepped and self._engine.named_row_state():
            raise ValueError(
                f"{owner}: `weight_decay` cannot become {value} after the first step, "
                f"because rows of tables are behind by steps with {before}. Make the "
                "optimizer with weight_decay=0.0 instead of None, or save the model, "
                "load it, and set `weight_decay` before training goes on."
            )
        else:
            self._change_decay(change)
        try:
            self.checked_sparse_mode()
        except ValueError:
            super().__setattr__(name, before)
            raise

    def _change_decay(self, change: Any) -> None:
        if self.built:
            context = self._context(0.0)
            self._engine.change_decay(change, self._use_weight_decay, context)
        else:
            change()

    @override
    def _use_weight_decay(self, variable: Any) -> bool:
        # Keras looks at the path on TensorFlow and at the bare name elsewhere.
        pattern = getattr(self, "_exclude_from_weight_decay_pattern", None)
        if pattern is not None and re.search(pattern, path_of(variable)):
            return False
        return super()._use_weight_decay(variable)

    @override
    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor; see Keras.

        If variables are excluded from weight decay by name, there is one more entry,
        which `from_config` takes.
        """
        config = super().get_config()
        pattern = getattr(self, "_exclude_from_weight_decay_pattern", None)
        return config if pattern is None else {**config, EXCLUDED: pattern.pattern}

    @classmethod
    @override
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Any:
        """Makes an optimizer from what `get_config` returned; see Keras."""
        config = dict(config)
        pattern = config.pop(EXCLUDED, None)
        optimizer = super().from_config(config, custom_objects)
        if pattern is not None:
            optimizer.exclude_from_weight_decay(var_names=[pattern])
        return optimizer
