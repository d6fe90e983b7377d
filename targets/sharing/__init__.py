"""Several models on one machine over simulated time: who has the array and the host when."""
