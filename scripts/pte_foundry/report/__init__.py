"""The summary, the table and the HTML report of all builds. Nothing here imports torch."""
