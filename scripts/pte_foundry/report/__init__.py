"""The page and the table that people read. Nothing here imports torch."""
