"""Tables: `inputs` (n, d) and `targets` (n, 1), split where they are used."""
