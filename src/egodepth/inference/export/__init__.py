"""Export of whole footage as point cloud, mesh, or for other programs."""
