"""Programs of the array: instructions, operands, queues, and how they are kept and checked."""
