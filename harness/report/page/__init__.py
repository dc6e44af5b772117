"""The page report.html: sections, explorer, templates."""
