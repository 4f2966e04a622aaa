"""What the metrics of the API and of the Celery workers share."""
