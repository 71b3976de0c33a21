"""How optimizers update variables; private to this package."""
