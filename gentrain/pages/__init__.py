"""Pages to look at: single HTML files that fetch nothing from outside. They know no model by name."""
