"""What an object reaches, by value: the ground of the digests that name runs."""
