"""One self-contained HTML file of a folder of results: claims, figures, tables and runs."""
