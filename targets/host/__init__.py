"""The host CPU: machine description, kernel schedules, kernel library build."""
