"""The user's own footage: videos, images, live cameras, camera files, and the cache of resized frames."""
