"""What a report shows besides scores: maps, mistakes, curves, temperatures."""
