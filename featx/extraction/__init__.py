"""From images to cached embeddings: what is missing is computed, then all is read."""
