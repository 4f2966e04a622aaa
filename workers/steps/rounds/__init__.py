"""One round of a training. `run.py` tells it from start to end."""
