"""Array descriptions that Motet ships: one TOML file each, named after the machine."""
