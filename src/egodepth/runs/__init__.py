"""The one owner of a run: its folder, its networks, its camera, and how it meets footage."""
