"""Memory: a worker and a producer need no more of it after a million jobs than after the first thousands."""
