"""Local web pages that show a run's predictions for footage or a live camera."""
