"""A local web page on which one looks at what a run makes of some footage."""
