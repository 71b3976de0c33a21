"""What several algorithms share: moments, norms, matrices."""
