"""A trained classifier in the formats of other runtimes, and the proof that it answers the same."""
