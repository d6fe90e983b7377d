"""How layers are cut into tiles and shared among pods."""
