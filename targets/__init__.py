"""What a machine is, and how code for it is made: the host CPU and the systolic array."""
