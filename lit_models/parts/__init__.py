"""Components chosen by name: activations, losses, metrics, optimizers and learning rate schedules."""
