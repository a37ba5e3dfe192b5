"""Floor 4: the recurrence on a CUDA device, from the same plan as the CPU's."""
