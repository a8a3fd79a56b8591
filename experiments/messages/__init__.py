"""Messages for users, and the errors that carry them."""
