"""The report: one page that answers where the time of a run went, from `page.render_report`."""
