"""Work on many videos: on all cores and GPUs of this machine, or of a Ray cluster."""
