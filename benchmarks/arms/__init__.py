"""What is compared: `raw`, `bare`, `naive` (nothing of litlab in them) and `litlab`."""
