"""What lies where in a run's folder."""

RUN_FILE = "run.json"
RAW_FOLDER = "raw"
REPORT_FILE = "report.html"
