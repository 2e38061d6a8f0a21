"""From the columns of a trace to scopes: every nanosecond of device time belongs to one, or has a
reason.
"""
