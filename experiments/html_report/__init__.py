"""The report of a study as one HTML file, and the server that shows a study while it runs."""
