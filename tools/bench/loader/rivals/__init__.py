"""The rivals: scripts that run with the Python of their own environment, and import nothing of mixloader."""
