"""Find videos, and decode them into frames."""
