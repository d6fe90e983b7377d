"""Inter-operator scheduling on bitmasks, free of tvm: endings, counts, blocks."""
