"""Messages for users, and the errors that contain them."""
