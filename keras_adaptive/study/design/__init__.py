"""What a study compares: workloads, contenders, protocol."""
