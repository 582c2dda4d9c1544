"""What a service author subclasses, and what runs it."""
