"""The design of a study: workloads, contenders and the protocol."""
