"""One's own footage: video, images, live cameras, camera files, and the cache of resized frames."""
