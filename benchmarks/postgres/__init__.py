"""What PostgreSQL is measured with: databases, a raw loop, and the libraries that others would take."""
