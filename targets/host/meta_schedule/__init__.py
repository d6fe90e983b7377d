"""TVM's MetaSchedule as a further source of kernels, asked by ``motet tune`` alone."""
