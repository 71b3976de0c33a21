"""The adapter to Keras, beside `base`: the hooks of a step and of evaluation."""
