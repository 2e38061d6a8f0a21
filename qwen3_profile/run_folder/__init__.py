"""What lies on disk in traces/<run>/: its layout, run.json and the files next to it. No torch, no
numpy.
"""
