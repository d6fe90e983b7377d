"""Several models on one CPU: how many frames a second each engine carries without a late one."""
