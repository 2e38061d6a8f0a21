"""The report: one page that answers where the time of a run went, from `build.render_page`."""
