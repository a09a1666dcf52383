"""A demonstration of the method on the rendered world of the miniature."""
