"""The methods of :func:`solver.solve`, one a file: functions that improve a running search."""
