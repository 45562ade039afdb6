"""Images on both sides of a split, and scores that need no image content."""
