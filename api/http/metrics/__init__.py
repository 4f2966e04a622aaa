"""Prometheus metrics of the API: its requests, its processes, the rows and the trainings.

Rows are counted at each scrape. Requests are counted by each process. No metric has a secret, a
name that a client chose, or data.
"""
