"""Everything that the author of an optimizer may use."""
