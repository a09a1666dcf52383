"""Pages, figures, tables and cards for people to look at."""
