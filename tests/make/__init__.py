"""Builders of traces, records, models and pages for the tests."""
