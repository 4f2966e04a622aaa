"""Models of events: one class for each type, or for types with the same fields."""
