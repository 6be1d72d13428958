"""The workshop: the application that the acceptance tests run in processes of their own."""
