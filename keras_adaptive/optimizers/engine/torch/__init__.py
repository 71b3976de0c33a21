"""What the engine does on PyTorch only: dense updates in few passes over memory."""
