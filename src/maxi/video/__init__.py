"""From a path to frames."""
