"""Text and pages. They compute nothing."""
