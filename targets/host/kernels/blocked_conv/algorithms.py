"""Values of the knob ``algorithm``; Winograd's are the sizes of their output tiles, 2 and 4."""

DIRECT = 0
DEPTHWISE = 1
