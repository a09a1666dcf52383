"""Studies: the paper's tables, and questions beyond it, as rows that are trained from the same matches and texts."""
