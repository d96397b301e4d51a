"""Experiments: rows and seeds become runs, runs become statistics, statistics become verdicts and a report."""
