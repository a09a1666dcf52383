"""The field's datasets: their official lists and names, and the videos that a user has of them."""
