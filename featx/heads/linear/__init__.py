"""Linear models on any number of rows: blocks of rows, losses, and one preconditioned solver."""
