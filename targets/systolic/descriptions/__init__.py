"""The array descriptions that ship with Motet, one TOML file each."""
