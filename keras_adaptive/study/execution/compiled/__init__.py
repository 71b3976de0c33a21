"""Many runs as one program of JAX: a loop over batches, side by side over runs."""
