"""What is found out about footage before the training: motion, camera, what stands still, dense depth."""
