"""The method on the rendered world of the miniature."""
