"""The compared programs: `raw`, `bare` and `naive`, which import nothing from litlab, and `litlab`."""
