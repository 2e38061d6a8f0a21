"""What lies on disk in traces/<run>/: its layout, run.json and the files beside it. No torch, no
numpy.
"""
