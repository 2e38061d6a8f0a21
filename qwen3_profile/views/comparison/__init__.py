"""A comparison as JSON, as Markdown, and as a page."""
