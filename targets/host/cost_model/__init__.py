"""The learned cost model: what a kernel's loop nest will take, told from numbers about it."""
