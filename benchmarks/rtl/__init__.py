"""The array register by register, in Amaranth: what the cycles of the timing view are proved by."""
