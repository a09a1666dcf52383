"""The training loop, and the batches, gradients and checkpoints that it uses."""
