"""Whether a layer computes with its weights as they are."""

from __future__ import annotations

from typing import Any


def is_plain(layer: Any) -> bool:
    """Returns whether a layer is without LoRA and not quantized."""
    return not layer.lora_enabled and layer.quantization_mode is None
