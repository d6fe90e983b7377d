"""Graph transformations, one per file: Relax in, Relax out."""
