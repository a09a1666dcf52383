"""What people look at: pages, figures, tables and cards."""
