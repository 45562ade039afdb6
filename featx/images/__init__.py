"""From the bytes of an image file to upright RGB pixels at a size."""
